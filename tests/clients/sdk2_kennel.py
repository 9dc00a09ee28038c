"""This project's own images by SDK 2: training, hosting, and a user's own script."""

import json
import sys
from pathlib import Path

import sagemaker
from sagemaker.deserializers import JSONDeserializer
from sagemaker.estimator import Estimator
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.serializers import IdentitySerializer

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
ROLE = "arn:aws:iam::123456789012:role/kennel"
session = sagemaker.Session()
photo, photos = Path(sys.argv[1]), session.upload_data(sys.argv[2], key_prefix="colors")


def estimator(hyperparameters: dict[str, object], **more: object) -> Estimator:
    return Estimator(
        f"{REGISTRY}/kennel-train:1",
        role=ROLE,
        instance_count=1,
        instance_type="ml.m5.xlarge",
        hyperparameters=hyperparameters,
        sagemaker_session=session,
        **more,
    )


own = estimator(
    {"limit": 5},
    source_dir=str(Path(__file__).with_name("own_source")),
    entry_point="own.py",
    metric_definitions=[{"Name": "photos", "Regex": "photos=([0-9]+);"}],
)
own.fit({"training": photos})
trained = estimator(
    {
        "architecture": "resnet18",
        "pretrained": "none",
        "image_size": 64,
        "epochs": 6,
        "batch_size": 8,
        "precision": "fp32",
    }
)
trained.fit({"training": photos})
model = Model(
    f"{REGISTRY}/kennel-serve:1",
    model_data=trained.model_data,
    role=ROLE,
    predictor_cls=Predictor,
    sagemaker_session=session,
)
predictor = model.deploy(
    1,
    "ml.m5.large",
    serializer=IdentitySerializer("image/jpeg"),
    deserializer=JSONDeserializer(),
    wait=False,
)
session.wait_for_endpoint(predictor.endpoint_name, poll=2)
result = {
    "own_model": own.model_data,
    "own_metrics": own.latest_training_job.describe()["FinalMetricDataList"],
    "model": trained.model_data,
    "prediction": predictor.predict(photo.read_bytes()),
}
predictor.delete_model()
predictor.delete_endpoint()
Path("result.json").write_text(json.dumps(result, default=str))
