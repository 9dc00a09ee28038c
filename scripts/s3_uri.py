"""s3:// URIs."""


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket, and key or prefix; keys may hold what other URIs may not."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key
