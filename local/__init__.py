"""A SageMaker on this machine, which any AWS client talks to and which really runs the jobs."""
