"""The other side of gpu.py: plain PyTorch and transformers on the same card and folder.

    gpu_torch.py DEVICE ceilings            copy bandwidth, rate of a bf16 matrix product
    gpu_torch.py DEVICE score FOLDER        images and tokens per second, batched and one by one
    gpu_torch.py DEVICE ft-l FOLDER         25 Adam steps on the last feed-forward output, then scoring
    gpu_torch.py DEVICE mend FOLDER         one backward pass, a low-rank change, then scoring

One JSON object on the last line.
"""

import json
import sys
import time

import torch

sys.dont_write_bytecode = True
from gpu_weights import ANSWERS, PROMPT, words  # noqa: E402

# An edit is judged on ten rows: three contexts with two answers each, two localities before and after.
JUDGED = 10


def wait(device):
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def timed(device, work, runs):
    work()
    wait(device)
    start = time.time()
    for _ in range(runs):
        work()
    wait(device)
    return (time.time() - start) / runs


def ceilings(device):
    size = 8192 if device.startswith("cuda") else 512
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = timed(device, lambda: a @ b, 10)
    source = torch.empty(size * size * 16, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = timed(device, lambda: target.copy_(source), 10)
    return {"bf16_tflops": 2 * size**3 / product / 1e12, "copy_gb_per_s": 2 * source.numel() / copy / 1e9}


class Model:
    def __init__(self, folder, device):
        from transformers import AutoTokenizer, Blip2ForConditionalGeneration

        start = time.time()
        self.net = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.bfloat16)
        self.net = self.net.to(device).eval().requires_grad_(False)
        wait(device)
        self.ready = time.time() - start
        self.device, config = device, self.net.config
        self.side = config.vision_config.image_size
        self.image = [config.image_token_index] * config.num_query_tokens
        self.text = AutoTokenizer.from_pretrained(folder)

    def batch(self, answers):
        rows = [self.image + self.text(f"{PROMPT} {answer}").input_ids for answer in answers]
        width = max(map(len, rows))
        ids = torch.tensor([row + [1] * (width - len(row)) for row in rows], device=self.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=self.device)
        pixels = torch.rand(len(rows), 3, self.side, self.side, device=self.device, dtype=torch.bfloat16)
        return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels}

    def loss(self, batch):
        logits = self.net(**batch).logits[:, :-1].float()
        picked = logits.log_softmax(-1).gather(2, batch["input_ids"][:, 1:, None])[:, :, 0]
        cut = len(self.image) + len(words(PROMPT))
        return -(picked * batch["attention_mask"][:, 1:])[:, cut:].mean()

    def last(self):
        """The weight that FT-L and MEND change."""
        names = [name for name, _ in self.net.named_parameters() if name.endswith(("fc2.weight", "down_proj.weight"))]
        language = [name for name in names if "language_model" in name]
        return dict(self.net.named_parameters())[language[-1]]


def score(device, folder):
    model = Model(folder, device)
    with torch.no_grad():
        batched = timed(device, lambda: model.loss(model.batch(ANSWERS * 16)), 3)
        single = timed(device, lambda: [model.loss(model.batch([answer])) for answer in ANSWERS], 5)
    tokens = model.batch(ANSWERS * 16)["attention_mask"].sum().item()
    peak = torch.cuda.max_memory_allocated() / 2**30 if device.startswith("cuda") else None
    return {"ready_s": model.ready, "images_per_s": 16 / batched, "single_images_per_s": 1 / single,
            "tokens_per_s": tokens / batched, "peak_gib": peak}


def edit(device, folder, steps):
    model = Model(folder, device)
    weight = model.last()
    kept = weight.detach().clone()

    def one():
        weight.requires_grad_(True)
        rule = torch.optim.Adam([weight], lr=5e-4)
        for _ in range(steps):
            rule.zero_grad()
            model.loss(model.batch(ANSWERS[:1])).backward()
            rule.step()
        weight.requires_grad_(False)
        with torch.no_grad():
            model.loss(model.batch((ANSWERS * JUDGED)[:JUDGED]))
            weight.copy_(kept)

    return {"ms_per_edit": 1e3 * timed(device, one, 3)}


if __name__ == "__main__":
    match sys.argv[1:]:
        case [device, "ceilings"]:
            found = ceilings(device)
        case [device, "score", folder]:
            found = score(device, folder)
        case [device, "ft-l", folder]:
            found = edit(device, folder, 25)
        case [device, "mend", folder]:
            found = edit(device, folder, 1)
        case _:
            sys.exit(__doc__)
    print(json.dumps(found))
