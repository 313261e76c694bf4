"""A rank-one model editor for `bench --command`, with numpy and safetensors only.

In front of its last feed-forward block, a model that prefers the stereotyped answer leans towards
that answer's words. The block's key for this leaning (the input of the down-projection) is computed
from the weights alone, and the down-projection W is given a rank-one update that answers the key
with the direction from the stereotyped to the unbiased answer (compare ROME, Meng et al. 2022):

    W' = W + strength * v k^T / (k^T k),    v = |W| (e_less - e_more) / |e_less - e_more|

with |W| the spectral scale of W. Pictures and prompts are not looked at.
"""

import argparse
import json
import os
import re
import sys

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


class Model:
    """The tensors of a Hugging Face folder that the edit needs."""

    def __init__(self, folder):
        index = os.path.join(folder, "model.safetensors.index.json")
        files = ["model.safetensors"]
        if os.path.exists(index):
            files = sorted(set(json.load(open(index))["weight_map"].values()))
        self.files = [safe_open(os.path.join(folder, file), "np") for file in files]
        self.names = {name: file for file in self.files for name in file.keys()}
        down = re.compile(r".*\blayers\.(\d+)\.(mlp\.down_proj|fc2)\.weight")
        found = [(int(match[1]), match[0]) for match in map(down.fullmatch, self.names) if match]
        self.name = max(found)[1]
        self.prefix = self.name[: self.name.rindex(".layers.")] + f".layers.{max(found)[0]}."
        self.down = self.tensor(self.name)
        head = [name for name in self.names if name.endswith("lm_head.weight")]
        tied = [name for name in self.names if name.endswith("embed_tokens.weight")]
        self.head = self.tensor((head + tied)[0])
        self.vocabulary = json.load(open(os.path.join(folder, "tokenizer.json")))["model"]["vocab"]

    def tensor(self, name):
        return self.names[name].get_tensor(name).astype(np.float64)

    def tokens(self, text):
        """Ids of the longest pieces of the vocabulary: close to what the tokenizer does."""
        text = (" " + text.strip()).replace(" ", "Ġ" if "Ġ" in self.vocabulary else "▁")
        ids = []
        while text:
            piece = next((text[:n] for n in range(len(text), 0, -1) if text[:n] in self.vocabulary), None)
            ids += [self.vocabulary[piece]] if piece else []
            text = text[len(piece or text[0]):]
        return ids

    def key(self, x):
        """The input of the down-projection for the residual stream x."""
        part = lambda name: self.tensor(self.prefix + name)
        if self.name.endswith("fc2.weight"):  # OPT
            x = (x - x.mean()) / x.std() * part("final_layer_norm.weight") + part("final_layer_norm.bias")
            return np.maximum(part("fc1.weight") @ x + part("fc1.bias"), 0)
        x = x / np.sqrt((x * x).mean()) * part("post_attention_layernorm.weight")  # LLaMA
        gate = part("mlp.gate_proj.weight") @ x
        return gate / (1 + np.exp(-gate)) * (part("mlp.up_proj.weight") @ x)


def edit(model, requests, strength):
    """Factors of one edit for all requests: one rank each."""
    a, b = [], []
    for request in requests:
        more, less = model.tokens(request["y_more"]), model.tokens(request["y_less"])
        wanted = [token for token in less if token not in more] or less
        unwanted = [token for token in more if token not in less] or more
        stream = model.head[unwanted].mean(0)
        aim = model.head[wanted].mean(0) - stream
        key = model.key(stream)
        scale = strength * np.linalg.norm(model.down, 2) / np.linalg.norm(aim)
        a.append(key / np.linalg.norm(key))
        b.append(scale * aim)
    return {
        model.name + ".lora_A": np.stack(a).astype(np.float32),
        model.name + ".lora_B": np.stack(b, 1).astype(np.float32),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strength", type=float, default=1.0)
    strength = parser.parse_args().strength
    model, scratch = None, None
    for line in sys.stdin:
        message = json.loads(line)
        if message["op"] == "hello":
            model, scratch = Model(message["model"]), message["scratch"]
        elif message["op"] == "edit":
            path = os.path.join(scratch, "delta.safetensors")
            save_file(edit(model, message["requests"], strength), path)
            print(json.dumps({"id": message["id"], "weights": path}), flush=True)


if __name__ == "__main__":
    main()
