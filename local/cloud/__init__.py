"""The AWS services beside SageMaker, by moto, with S3 kept on disk."""
