import pytest
import torch

from train.sampling import Sampler, TooFew, in_order, seeded


def steps(sampler: Sampler, epoch: int = 1, first: int = 0) -> list[tuple[list[int], list[int]]]:
    return [(rows.tolist(), own.tolist()) for rows, own in sampler.epoch(epoch, first)]


def test_an_epoch_shows_every_photo_once() -> None:
    rows = [row for step, _ in steps(Sampler(11, 4, seed=0)) for row in step]
    assert sorted(rows) == list(range(11))


def test_alone_all_of_a_step_is_ours() -> None:
    assert all(rows == own for rows, own in steps(Sampler(11, 4, seed=0)))


@pytest.mark.parametrize("ranks", [2, 3])
def test_processes_share_each_step_out_among_them(ranks: int) -> None:
    alone = steps(Sampler(23, 7, seed=5))
    each = [steps(Sampler(23, 7, seed=5, rank=rank, ranks=ranks)) for rank in range(ranks)]
    for number, parts in enumerate(zip(*each, strict=True)):
        assert all(rows == alone[number][0] for rows, _ in parts)
        assert [row for _, own in parts for row in own] == alone[number][0]
        assert all(len(own) >= 2 for _, own in parts)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [steps(Sampler(50, 10, seed), epoch) for seed, epoch in ((1, 1), (1, 2), (2, 1))]
    assert len({str(order) for order in orders}) == 3


def test_an_epoch_can_be_entered_at_any_step() -> None:
    sampler = Sampler(50, 8, seed=3)
    assert steps(sampler, epoch=4, first=3) == steps(sampler, epoch=4)[3:]
    assert steps(sampler, first=sampler.steps) == []


@pytest.mark.parametrize(
    ("count", "batch_size", "ranks", "expected"),
    [(8, 4, 1, 2), (9, 4, 1, 2), (10, 4, 1, 3), (2, 32, 1, 1), (11, 8, 2, 1), (12, 8, 2, 2)],
)
def test_a_last_step_too_small_for_all_is_left_out(
    count: int, batch_size: int, ranks: int, expected: int
) -> None:
    sampler = Sampler(count, batch_size, seed=0, ranks=ranks)
    assert sampler.steps == len(steps(sampler)) == expected


def test_too_small_a_step_or_set_is_refused() -> None:
    with pytest.raises(TooFew) as caught:
        Sampler(100, 4, seed=0, ranks=3)
    assert str(caught.value) == (
        "batch_size=4 leaves some of 3 processes fewer than two photos a step. "
        "Set batch_size to at least 6."
    )
    with pytest.raises(TooFew, match="5 training photos are too few for 3 processes"):
        Sampler(5, 32, seed=0, ranks=3)


def test_every_place_in_a_training_has_its_own_random_source() -> None:
    sampler, other = Sampler(8, 4, seed=0, ranks=2), Sampler(8, 4, seed=0, rank=1, ranks=2)
    sources = [sampler.variation(1, 0), sampler.variation(1, 1), sampler.variation(2, 0)]
    drawn = [float(torch.rand(1, generator=s)) for s in (*sources, other.variation(1, 0))]
    assert len(set(drawn)) == 4
    again = float(torch.rand(1, generator=sampler.variation(1, 0)))
    assert again == drawn[0]
    assert seeded(0, 1).initial_seed() != seeded(1, 0).initial_seed()


@pytest.mark.parametrize(("count", "batch_size", "ranks"), [(10, 3, 1), (10, 3, 2), (4, 3, 3)])
def test_in_order_every_row_is_someones_and_all_take_equally_many_turns(
    count: int, batch_size: int, ranks: int
) -> None:
    each = [list(in_order(count, batch_size, rank, ranks)) for rank in range(ranks)]
    assert len({len(parts) for parts in each}) == 1
    rows = [row for parts in each for part in parts for row in range(count)[part]]
    assert sorted(rows) == list(range(count))
