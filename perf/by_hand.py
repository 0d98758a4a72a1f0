"""The script that anybody writes first, the peer of `run resnet18 --effort quick`: ten steps untimed, forty timed."""

import time

import timm
import torch

model = timm.create_model("resnet18").eval()
images = torch.randn(1, 3, 224, 224)
with torch.inference_mode():
    for _ in range(10):
        model(images)
    start = time.perf_counter()
    for _ in range(40):
        model(images)
    seconds = time.perf_counter() - start
print(40 / seconds)
