"""The loop of `bench tune` in PyTorch, for its speed: batch 8 x 128 tokens, AdamW, clipping, 2 threads.

    python tune_torch.py FOLDER [UPDATES]

FOLDER is a Hugging Face folder of a causal language model. Prints seconds per update and peak memory.
"""

import os
import resource
import sys
import time

import torch
from transformers import AutoModelForCausalLM


def main():
    folder, updates = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 5
    torch.set_num_threads(2)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [dict(params=matrices, weight_decay=0.01), dict(params=vectors, weight_decay=0.0)]
    optimiser = torch.optim.AdamW(groups, lr=1e-5)
    draws = torch.Generator().manual_seed(0)
    took = []
    for _ in range(updates):
        ids = torch.randint(0, model.config.vocab_size, (8, 128), generator=draws)
        began, spent = time.time(), sum(os.times()[:2])
        loss = model(input_ids=ids, labels=ids).loss
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        took.append(time.time() - began)
        print(f"{took[-1]:.2f} s, {sum(os.times()[:2]) - spent:.2f} s of processor time", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{updates / sum(took):.4f} updates per second, {peak} MiB")


main()
