"""Trains an image classifier as SageMaker runs it: the command `train` over the `/opt/ml` tree."""
