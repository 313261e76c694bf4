"""Seeded LLaMA-shaped checkpoints and recipes for the measurements of `bench merge`.

    merge.py make DIR LAYERS [--hidden H --inner I --vocab V --heads N] [--models base,ft_a,ft_b] [--shard BYTES]
    merge.py run RECIPE OUT      mergekit on a recipe, in this process: wall and CPU seconds, peak GiB

Weights are bf16: normal values for the base, small normal steps from it for the others. No model is
trained; the time of a merge does not depend on what weights mean.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

METHODS = {
    "linear": (["ft_a", "ft_b"], None, {"weight": 0.5}, {}),
    "nearswap": (["ft_a"], "base", {}, {"t": 0.001}),
    "slerp": (["ft_a"], "base", {}, {"t": 0.4}),
    "karcher": (["ft_a", "ft_b"], None, {}, {}),
    "task_arithmetic": (["ft_a", "ft_b"], "base", {"weight": 0.5}, {}),
    "dare_ties": (["ft_a", "ft_b"], "base", {"weight": 0.5, "density": 0.5}, {}),
    "ties": (["ft_a", "ft_b"], "base", {"weight": 0.5, "density": 0.5}, {}),
    "della": (["ft_a", "ft_b"], "base", {"weight": 0.5, "density": 0.5, "epsilon": 0.15}, {}),
}


def tensors(args):
    hidden, inner, vocab = args.hidden, args.inner, args.vocab
    kv = hidden // args.heads * max(1, args.heads // 8)
    yield "model.embed_tokens.weight", (vocab, hidden)
    for layer in range(args.layers):
        at = f"model.layers.{layer}."
        for name, shape in {
            "input_layernorm.weight": (hidden,),
            "mlp.down_proj.weight": (hidden, inner),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "post_attention_layernorm.weight": (hidden,),
            "self_attn.k_proj.weight": (kv, hidden),
            "self_attn.o_proj.weight": (hidden, hidden),
            "self_attn.q_proj.weight": (hidden, hidden),
            "self_attn.v_proj.weight": (kv, hidden),
        }.items():
            yield at + name, shape
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (vocab, hidden)


def values(name, shape, model):
    import torch

    def normal(salt):
        torch.manual_seed(sum(map(ord, name)) * 7 + salt)
        return torch.randn(shape)

    base = (1.0 if len(shape) == 1 else 0.0) + 0.02 * normal(0)
    step = {"base": 0.0, "ft_a": 0.002, "ft_b": 0.002}[model]
    salt = {"base": 0, "ft_a": 1, "ft_b": 2}[model]
    if step:
        base = base.to(torch.bfloat16).float() + step * normal(salt)
    return base.to(torch.bfloat16)


def write(folder, model, args):
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    shards, held, size = [{}], 0, 0
    total, where = 0, {}

    def flush():
        name = f"model-{len(shards):05d}.safetensors"
        save_file(shards[-1], folder / name, metadata={"format": "pt"})
        where.update({key: name for key in shards[-1]})
        shards[-1] = {}

    for name, shape in tensors(args):
        tensor = values(name, shape, model)
        size = tensor.numel() * 2
        if held and held + size > args.shard:
            flush()
            shards.append({})
            held = 0
        shards[-1][name] = tensor
        held += size
        total += size
    flush()
    if len(shards) == 1:
        (folder / "model-00001.safetensors").rename(folder / "model.safetensors")
    else:
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": args.hidden,
        "intermediate_size": args.inner,
        "num_hidden_layers": args.layers,
        "num_attention_heads": args.heads,
        "num_key_value_heads": max(1, args.heads // 8),
        "vocab_size": args.vocab,
        "torch_dtype": "bfloat16",
        "tie_word_embeddings": False,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return total


def make(args):
    for model in args.models.split(","):
        folder = args.dir / model
        if not folder.exists():
            print(model, write(folder, model, args), "bytes", flush=True)
    for method, (models, base, each, shared) in METHODS.items():
        recipe = {"merge_method": method}
        recipe["models"] = [
            {"model": str(args.dir / model), **({"parameters": each} if each else {})} for model in models
        ]
        if base:
            recipe["base_model"] = str(args.dir / base)
        if shared:
            recipe["parameters"] = shared
        # JSON is YAML.
        (args.dir / f"{method}.yaml").write_text(json.dumps(recipe, indent=1))


def run(args):
    began = time.monotonic()
    program = Path(sys.executable).with_name("mergekit-yaml")
    flags = ["--random-seed", "11", "--quiet", "--no-write-model-card"]
    subprocess.run([program, args.recipe, args.out, *flags], check=True, capture_output=True)
    wall = time.monotonic() - began
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{wall:.2f} {used.ru_utime + used.ru_stime:.2f} {used.ru_maxrss / 1048576:.2f}")


parser = argparse.ArgumentParser(description=__doc__)
commands = parser.add_subparsers(required=True)
made = commands.add_parser("make")
made.add_argument("dir", type=Path)
made.add_argument("layers", type=int)
made.add_argument("--hidden", type=int, default=2048)
made.add_argument("--inner", type=int, default=5632)
made.add_argument("--vocab", type=int, default=32000)
made.add_argument("--heads", type=int, default=32)
made.add_argument("--models", default="base,ft_a,ft_b")
made.add_argument("--shard", type=int, default=5_000_000_000)
made.set_defaults(run=make)
timed = commands.add_parser("run")
timed.add_argument("recipe")
timed.add_argument("out")
timed.set_defaults(run=run)
arguments = parser.parse_args()
arguments.run(arguments)
