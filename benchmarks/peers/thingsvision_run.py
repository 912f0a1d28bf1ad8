"""Runs inside .bench/thingsvision: one extraction from image files to a saved array; prints its seconds as JSON.

Arguments: folder of images, model name, module name, batch size, loader workers, threads. Importing and building the model is not timed.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time


def main(folder: str, name: str, module: str, batch: int, workers: int, threads: int) -> None:
    import torch
    from thingsvision import get_extractor
    from thingsvision.utils.data import DataLoader, ImageDataset
    from thingsvision.utils.storing import save_features

    torch.set_num_threads(threads)
    extractor = get_extractor(model_name=name, source="torchvision", device="cpu", pretrained=False)
    with tempfile.TemporaryDirectory() as out:
        start = time.perf_counter()
        images = ImageDataset(root=folder, out_path=out, backend="pt", transforms=extractor.get_transformations())
        if workers:  # its own loader has none; PyTorch's gives it the same batches, decoded in other processes
            batches = torch.utils.data.DataLoader(images, batch_size=batch, num_workers=workers)
        else:
            batches = DataLoader(dataset=images, batch_size=batch, backend=extractor.get_backend())
        features = extractor.extract_features(
            batches=batches, module_name=module, flatten_acts=True, output_type="ndarray"
        )
        save_features(features, out_path=out, file_format="npy")
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "rows": len(features)}))


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:7]))  # type: ignore[arg-type]
