"""Writes peft_adapters.json: small adapters as PEFT saves them, and what PEFT merges them to.

    python peft_adapters.py      # torch, peft, transformers, safetensors

Made with peft 0.21.2. All numbers are random multiples of 1/16.
"""

import json
import tempfile
from pathlib import Path

import peft
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn
from transformers.pytorch_utils import Conv1D


class Block(nn.Module):
    """Linear layers, a transposed one as in GPT-2, square and not, and a convolution."""

    def __init__(self):
        super().__init__()
        self.q_proj = nn.Linear(3, 3, bias=True)
        self.up_proj = nn.Linear(3, 5, bias=False)


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 3)
        self.layers = nn.ModuleList([Block(), Block()])
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, 4)


class Turned(nn.Module):
    def __init__(self):
        super().__init__()
        self.c_attn = Conv1D(5, 3)  # weight [3, 5]
        self.c_proj = Conv1D(3, 3)


class Patches(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch = nn.Conv2d(2, 3, kernel_size=2)


CASES = {
    "patterns": (Plain, dict(r=2, lora_alpha=3, target_modules=["q_proj", "up_proj"],
                             rank_pattern={"layers.1.q_proj": 1, "q_proj": 3},
                             alpha_pattern={"^layers.0.up_proj": 7, "up_.*": 5})),
    "rslora": (Plain, dict(r=3, lora_alpha=2, use_rslora=True, target_modules=["q_proj", "up_proj"],
                           rank_pattern={"up_proj": 2})),
    "whole": (Plain, dict(r=2, lora_alpha=2, target_modules=["q_proj"], modules_to_save=["head"],
                          bias="all")),
    "embedding": (Plain, dict(r=2, lora_alpha=6, target_modules=["embed", "q_proj"])),
    "transposed": (Turned, dict(r=2, lora_alpha=4, target_modules=["c_attn", "c_proj"],
                                fan_in_fan_out=True)),
    "convolution": (Patches, dict(r=2, lora_alpha=3, target_modules=["patch"])),
}


def numbers(state):
    return {name: {"shape": list(t.shape), "values": t.double().flatten().tolist()}
            for name, t in sorted(state.items())}


def fill(module, generator):
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            draw = torch.randint(-16, 17, parameter.shape, generator=generator)
            parameter.copy_(draw / 16)


def case(build, settings, generator):
    base = build()
    fill(base, generator)
    before = {name: t.clone() for name, t in base.state_dict().items()}
    model = get_peft_model(base, LoraConfig(**settings))
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.requires_grad:
                draw = torch.randint(-16, 17, parameter.shape, generator=generator)
                parameter.copy_(draw / 16)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        config = json.loads((Path(folder) / "adapter_config.json").read_text())
        config["target_modules"].sort()  # a set in PEFT
        adapter = load_file(Path(folder) / "adapter_model.safetensors")
    merged = model.merge_and_unload().state_dict()
    return {"config": config, "adapter": numbers(adapter), "base": numbers(before),
            "merged": numbers(merged)}


generator = torch.Generator().manual_seed(5)
golden = {"peft": peft.__version__}
golden["cases"] = {name: case(build, settings, generator)
                   for name, (build, settings) in CASES.items()}
target = Path(__file__).with_suffix(".json")
target.write_text(json.dumps(golden, separators=(",", ":"), sort_keys=False) + "\n")
