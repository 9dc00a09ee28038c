"""A user's own training script, as the SDK brings it into an image."""

import argparse
import json
import os
from pathlib import Path

from own_model import count

parser = argparse.ArgumentParser()
parser.add_argument("--limit", type=int)
parser.add_argument("--training", type=Path, default=os.environ["SM_CHANNEL_TRAINING"])
parser.add_argument("--model-dir", type=Path, default=os.environ["SM_MODEL_DIR"])
options = parser.parse_args()
found = count(options.training, options.limit)
print(f"photos={found};", flush=True)
(options.model_dir / "found.json").write_text(json.dumps(found))
