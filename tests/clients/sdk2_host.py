"""Hosts with SDK 2: a Model, its Predictor, another model at the same endpoint, and the end."""

import json
import sys
from pathlib import Path

import sagemaker
from botocore.exceptions import ClientError
from sagemaker.deserializers import JSONDeserializer
from sagemaker.model import Model
from sagemaker.predictor import Predictor
from sagemaker.serializers import JSONSerializer

session = sagemaker.Session()


def model(archive: str, name: str) -> Model:
    uri = session.upload_data(archive, key_prefix=f"models/{name}")
    return Model(
        "123456789012.dkr.ecr.us-east-1.amazonaws.com/tiny:1",
        model_data=uri,
        role="arn:aws:iam::123456789012:role/kennel",
        predictor_cls=Predictor,
        name=name,
        sagemaker_session=session,
    )


def refusal(predictor: Predictor) -> str:
    try:
        return str(predictor.predict({"size": 5}))
    except ClientError as error:
        return str(error)


first, second = sys.argv[1:]
predictor = model(first, "first").deploy(
    1,
    "ml.m5.large",
    endpoint_name="sdk2",
    serializer=JSONSerializer(),
    deserializer=JSONDeserializer(),
)
result = {"first": predictor.predict({"size": 3})}
model(second, "second").create(instance_type="ml.m5.large")
predictor.update_endpoint(1, "ml.m5.large", model_name="second", wait=False)
session.wait_for_endpoint("sdk2", poll=2)
result["second"] = predictor.predict({"size": 4})
predictor.delete_model()
predictor.delete_endpoint()
result["gone"] = refusal(predictor)
Path("result.json").write_text(json.dumps(result))
