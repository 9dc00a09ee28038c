import hashlib
import io
import pickle
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.conftest import REAL_WEIGHTS
from train.config import Config
from train.network import (
    ARCHITECTURES,
    BadWeights,
    build_network,
    choose_architecture,
    download_imagenet,
    identify,
    parameter_groups,
    read_weights,
    read_weights_file,
    trained_modules,
)

CONFIG = Config()


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """A ResNet18's with 1,000 outputs, as others publish it."""
    torch.manual_seed(1)
    state: dict[str, Tensor] = torchvision.models.resnet18().state_dict()
    return state


def backbone(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.startswith("fc.")}


def same(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return all(torch.allclose(ours[name], value, atol=1e-3) for name, value in theirs.items())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_network_gets_a_last_layer_for_the_classes(architecture: str) -> None:
    with torch.device("meta"):
        network = build_network(architecture, 7, None)
    head = network.get_submodule("fc")
    assert isinstance(head, nn.Linear)
    assert head.out_features == 7


def test_auto_takes_the_network_whose_weights_it_is_given() -> None:
    with torch.device("meta"):
        weights = torchvision.models.get_model("resnet34").state_dict()
    assert choose_architecture("auto", weights) == "resnet34"
    assert choose_architecture("auto", None) == "resnet50"
    assert choose_architecture("auto", {"other": torch.zeros(1)}) == "resnet50"
    assert choose_architecture("resnet18", weights) == "resnet18"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_are_recognised_by_their_shapes(architecture: str) -> None:
    with torch.device("meta"):
        state = torchvision.models.get_model(architecture).state_dict()
    assert identify(state) == architecture


def test_pretrained_weights_fill_everything_but_the_last_layer(weights: dict[str, Tensor]) -> None:
    network = build_network("resnet18", 3, weights)
    state = network.state_dict()
    assert same(state, backbone(weights))
    assert state["fc.weight"].shape == (3, 512)


@pytest.mark.parametrize("form", ["full", "half", "bfloat16", "module-prefix", "nested", "no-head"])
def test_a_state_dict_is_read_in_every_common_form(
    tmp_path: Path, weights: dict[str, Tensor], form: str
) -> None:
    saved: dict[str, object] = {
        "full": weights,
        "half": {k: v.half() if v.is_floating_point() else v for k, v in weights.items()},
        "bfloat16": {k: v.bfloat16() if v.is_floating_point() else v for k, v in weights.items()},
        "module-prefix": {f"module.{k}": v for k, v in weights.items()},
        "nested": {"epoch": 3, "state_dict": weights},
        "no-head": backbone(weights),
    }
    torch.save(saved[form], tmp_path / "model.pth")
    read = read_weights(tmp_path)
    assert {value.dtype for value in read.values()} == {torch.float32, torch.int64}
    state = build_network("resnet18", 3, read).state_dict()
    tolerance = 1e-2 if form == "bfloat16" else 1e-3
    for name, value in backbone(weights).items():
        assert torch.allclose(state[name].float(), value.float(), rtol=tolerance, atol=tolerance)


def test_safetensors_are_read(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    save_file(weights, tmp_path / "model.safetensors")
    assert same(read_weights(tmp_path), weights)


def test_weights_may_lie_in_a_deeper_folder_beside_other_files(
    tmp_path: Path, weights: dict[str, Tensor]
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "README.md").write_text("about the weights")
    torch.save(weights, tmp_path / "model" / "weights.pt")
    assert same(read_weights(tmp_path), weights)


def test_old_weights_without_step_counters_will_do(weights: dict[str, Tensor]) -> None:
    old = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    assert same(build_network("resnet18", 3, old).state_dict(), backbone(old))


@pytest.mark.parametrize(
    ("names", "found"),
    [((), "none"), (("a.pth", "b.safetensors"), "a.pth, b.safetensors")],
    ids=["none", "two"],
)
def test_the_channel_must_hold_one_weights_file(
    tmp_path: Path, names: tuple[str, ...], found: str
) -> None:
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(BadWeights, match=rf"must hold one weights file .*Found: {found}\."):
        read_weights(tmp_path)


def test_weights_of_another_network_are_refused_with_the_one_they_fit(
    weights: dict[str, Tensor],
) -> None:
    with pytest.raises(BadWeights) as caught:
        build_network("resnet50", 3, weights)
    assert str(caught.value) == (
        "The pretrained weights are not resnet50's: 'layer1.0.conv1.weight' has shape "
        "(64, 64, 3, 3), not (64, 64, 1, 1). They fit resnet18: set architecture=resnet18."
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer9.weight": torch.zeros(1)}, "'layer9.weight' is unknown"),
        ({"conv1.weight": torch.zeros(64, 1, 7, 7)}, "'conv1.weight' has shape"),
    ],
    ids=["unknown-layer", "one-colour"],
)
def test_weights_of_no_resnet_are_refused(
    weights: dict[str, Tensor], change: dict[str, Tensor], words: str
) -> None:
    with pytest.raises(BadWeights, match=rf"{words}.* They fit none of resnet18, resnet34"):
        build_network("resnet18", 3, {**weights, **change})


def test_weights_that_lack_a_layer_are_refused(weights: dict[str, Tensor]) -> None:
    lacking = {name: value for name, value in weights.items() if name != "bn1.weight"}
    with pytest.raises(BadWeights, match=r"'bn1\.weight' is missing"):
        build_network("resnet18", 3, lacking)


class Burglar:
    """Writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return Path.touch, (self.mark,)


def test_code_hidden_in_weights_is_not_run(tmp_path: Path) -> None:
    path, mark = tmp_path / "model.pth", tmp_path / "mark"
    path.write_bytes(pickle.dumps({"conv1.weight": Burglar(mark)}))
    with pytest.raises(BadWeights, match=r"model\.pth is not a plain torch state dict"):
        read_weights_file(path)
    torch.save({"conv1.weight": Burglar(mark)}, path)
    with pytest.raises(BadWeights, match=r"model\.pth is not a plain torch state dict"):
        read_weights_file(path)
    assert not mark.exists()


def cut(weights: Mapping[str, Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(dict(weights), buffer)
    return buffer.getvalue()[:100_000]


def test_weights_cut_short_are_refused(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    (tmp_path / "model.pth").write_bytes(cut(weights))
    with pytest.raises(BadWeights, match=r"model\.pth is not a plain torch state dict"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.pth", b"", "is not a plain torch state dict"),
        ("a.pt", b"GIF89a", "is not a plain torch state dict"),
        ("a.safetensors", b"", r"can't be read .*Copy it again"),
        ("a.safetensors", b"x" * 1000, r"can't be read .*Copy it again"),
    ],
)
def test_a_file_that_is_no_weights_is_refused(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadWeights, match=words):
        read_weights(tmp_path)


@pytest.mark.parametrize("value", [[1, 2], {"epoch": 3}, torch.zeros(2)], ids=type)
def test_a_file_that_holds_something_else_is_refused(tmp_path: Path, value: object) -> None:
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(BadWeights, match=r"not a state dict\. Save one with"):
        read_weights(tmp_path)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A web server on this machine: the folder it serves, and its address."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def publish(folder: Path, weights: Mapping[str, Tensor], *, digest: str | None = None) -> str:
    """Saves the weights under a name that promises their SHA-256, as torchvision's do."""
    torch.save(dict(weights), folder / "new.pth")
    digest = digest or hashlib.sha256((folder / "new.pth").read_bytes()).hexdigest()[:8]
    (folder / "new.pth").rename(folder / f"resnet18-{digest}.pth")
    return f"resnet18-{digest}.pth"


def test_imagenet_weights_are_downloaded_once(
    site: tuple[Path, str], weights: dict[str, Tensor]
) -> None:
    folder, address = site
    name = publish(folder, weights)
    assert same(download_imagenet("resnet18", f"{address}/{name}"), weights)
    (folder / name).unlink()
    assert same(download_imagenet("resnet18", f"{address}/{name}"), weights)


def test_a_download_that_differs_from_its_digest_is_refused(
    site: tuple[Path, str], weights: dict[str, Tensor]
) -> None:
    folder, address = site
    name = publish(folder, weights, digest="00000000")
    with pytest.raises(BadWeights, match=r"could not download .*invalid hash value"):
        download_imagenet("resnet18", f"{address}/{name}")


@pytest.mark.parametrize("path", ["/resnet18-12345678.pth", None], ids=["404", "nobody-there"])
def test_without_the_internet_a_sentence_says_to_add_the_channel(
    site: tuple[Path, str], path: str | None
) -> None:
    address = site[1] + path if path else "http://127.0.0.1:9/resnet18-12345678.pth"
    with pytest.raises(BadWeights, match=r"could not download .*Add a channel 'pretrained' with"):
        download_imagenet("resnet18", address)


def trainable(architecture: str, fine_tune: str) -> nn.Module:
    network = build_network(architecture, 3, None).requires_grad_(False)
    for part in trained_modules(network, fine_tune):
        part.requires_grad_(True)
    return network


def grouped(network: nn.Module) -> dict[str, tuple[float, float]]:
    """Each trained parameter's (rate, decay) by name."""
    groups = parameter_groups(network, CONFIG, lr=1.0, layer_decay=0.5)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    flat = [
        (names[id(parameter)], (group["lr"], group["weight_decay"]))
        for group in groups
        for parameter in group["params"]  # type: ignore[attr-defined]
    ]
    assert len(flat) == len(dict(flat))
    return dict(flat)  # type: ignore[arg-type]


@pytest.mark.parametrize("fine_tune", ["head", "layer4", "all"])
@pytest.mark.parametrize("architecture", ["resnet18", "resnet50"])
def test_every_trained_parameter_is_in_one_group(architecture: str, fine_tune: str) -> None:
    network = trainable(architecture, fine_tune)
    prefixes = {"head": ("fc.",), "layer4": ("layer4.", "fc."), "all": ("",)}[fine_tune]
    expected = {name for name, _ in network.named_parameters() if name.startswith(prefixes)}
    assert set(grouped(network)) == expected


def test_norms_and_biases_do_not_decay_and_matrices_do() -> None:
    network = trainable("resnet50", "all")
    decays = {name: decay for name, (_, decay) in grouped(network).items()}
    for name, module in network.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            assert decays[f"{name}.weight"] == decays[f"{name}.bias"] == 0.0
        elif isinstance(module, nn.Conv2d | nn.Linear):
            assert decays[f"{name}.weight"] == CONFIG.weight_decay
    assert decays["layer1.0.downsample.1.weight"] == decays["fc.bias"] == 0.0


def test_the_nearer_to_the_output_the_larger_the_rate() -> None:
    rates = {name: rate for name, (rate, _) in grouped(trainable("resnet18", "all")).items()}
    assert [
        rates[f"{name}.weight"]
        for name in (
            "fc",
            "layer4.1.conv2",
            "layer3.0.bn1",
            "layer2.0.downsample.0",
            "layer1.0.conv1",
            "conv1",
        )
    ] == [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125]
    assert rates["bn1.bias"] == rates["conv1.weight"]


@pytest.mark.photos
@pytest.mark.skipif(not REAL_WEIGHTS.exists(), reason=f"{REAL_WEIGHTS} is absent.")
def test_real_half_precision_weights_are_read() -> None:
    weights = read_weights_file(REAL_WEIGHTS)
    assert identify(weights) == "resnet50"
    build_network("resnet50", 133, weights)
