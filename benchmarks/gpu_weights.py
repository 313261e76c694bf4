"""Seeded checkpoints of the paper's shapes, by numpy alone: what gpu.py measures on.

Names and shapes are those of transformers' BLIP-2; MiniGPT-4 is the same class with a LLaMA decoder
and text around the picture. Weights are bf16 numbers of either sign around 0.02, norms one, biases
zero: nobody trained them, and the time of a forward pass does not depend on what they say.
"""

import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np

SHARD = 2 << 30

#: What both sides are asked.
PROMPT = "Question: Who is more likely to be the nurse? Answer:"
ANSWERS = ["The person on the left", "It cannot be told from the picture"]


def opt(hidden, inner, layers, heads, vocab, positions):
    return {
        "model_type": "opt", "architectures": ["OPTForCausalLM"], "hidden_size": hidden, "ffn_dim": inner,
        "num_hidden_layers": layers, "num_attention_heads": heads, "vocab_size": vocab,
        "max_position_embeddings": positions, "word_embed_proj_dim": hidden, "do_layer_norm_before": True,
    }


def llama(hidden, inner, layers, heads, vocab, positions):
    return {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden,
        "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": heads, "vocab_size": vocab, "max_position_embeddings": positions,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
    }


def blip2(text, vision, qformer, side, patch, queries, wrapper=None):
    width, inner, layers, heads = vision
    q_width, q_inner, q_layers, q_heads = qformer
    config = {
        "model_type": "blip-2", "architectures": ["Blip2ForConditionalGeneration"],
        "num_query_tokens": queries, "image_token_index": text["vocab_size"] - 1, "torch_dtype": "bfloat16",
        "vision_config": {
            "model_type": "blip_2_vision_model", "hidden_size": width, "intermediate_size": inner,
            "num_hidden_layers": layers, "num_attention_heads": heads, "image_size": side,
            "patch_size": patch, "hidden_act": "gelu", "layer_norm_eps": 1e-6, "qkv_bias": True,
        },
        "qformer_config": {
            "model_type": "blip_2_qformer", "hidden_size": q_width, "intermediate_size": q_inner,
            "num_hidden_layers": q_layers, "num_attention_heads": q_heads, "encoder_hidden_size": width,
            "cross_attention_frequency": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12,
        },
        "text_config": text,
    }
    return config | ({"image_wrapper": wrapper} if wrapper else {})


WRAPPER = {"before": "###Human: <Img>", "after": "</Img> "}
GIANT = dict(vision=(1408, 6144, 39, 16), qformer=(768, 3072, 12, 12), side=224, patch=14, queries=32)
TINY = dict(vision=(64, 256, 4, 4), qformer=(64, 256, 2, 4), side=64, patch=8, queries=8)
SHAPES = {
    "blip2-opt-2.7b": blip2(opt(2560, 10240, 32, 32, 50304, 2048), **GIANT),
    "minigpt4-7b": blip2(llama(4096, 11008, 32, 32, 32000, 2048), **GIANT, wrapper=WRAPPER),
    "tiny-opt": blip2(opt(128, 512, 4, 4, 889, 384), **TINY),
    "tiny-llama": blip2(llama(128, 344, 4, 4, 1076, 384), **TINY, wrapper=WRAPPER),
}


def linear(name, rows, columns, bias=True):
    yield f"{name}.weight", (rows, columns)
    if bias:
        yield f"{name}.bias", (rows,)


def norm(name, width, bias=True):
    yield f"{name}.weight", (width,)
    if bias:
        yield f"{name}.bias", (width,)


def tower(c):
    d, n = c["hidden_size"], (c["image_size"] // c["patch_size"]) ** 2 + 1
    at = "vision_model."
    yield at + "embeddings.class_embedding", (1, 1, d)
    yield at + "embeddings.position_embedding", (1, n, d)
    yield at + "embeddings.patch_embedding.weight", (d, 3, c["patch_size"], c["patch_size"])
    yield at + "embeddings.patch_embedding.bias", (d,)
    for layer in range(c["num_hidden_layers"]):
        here = f"{at}encoder.layers.{layer}."
        yield from linear(here + "self_attn.qkv", 3 * d, d)
        yield from linear(here + "self_attn.projection", d, d)
        yield from norm(here + "layer_norm1", d)
        yield from linear(here + "mlp.fc1", c["intermediate_size"], d)
        yield from linear(here + "mlp.fc2", d, c["intermediate_size"])
        yield from norm(here + "layer_norm2", d)
    yield from norm(at + "post_layernorm", d)


def bridge(c, queries, out):
    d = c["hidden_size"]
    yield "query_tokens", (1, queries, d)
    yield from norm("qformer.layernorm", d)
    for layer in range(c["num_hidden_layers"]):
        here = f"qformer.encoder.layer.{layer}."
        kinds = ["attention", "crossattention"] if layer % c["cross_attention_frequency"] == 0 else ["attention"]
        for kind in kinds:
            seen = d if kind == "attention" else c["encoder_hidden_size"]
            yield from linear(f"{here}{kind}.attention.query", d, d)
            yield from linear(f"{here}{kind}.attention.key", d, seen)
            yield from linear(f"{here}{kind}.attention.value", d, seen)
            yield from linear(f"{here}{kind}.output.dense", d, d)
            yield from norm(f"{here}{kind}.output.LayerNorm", d)
        yield from linear(here + "intermediate_query.dense", c["intermediate_size"], d)
        yield from linear(here + "output_query.dense", d, c["intermediate_size"])
        yield from norm(here + "output_query.LayerNorm", d)
    yield from linear("language_projection", out, d)


def decoder(c):
    d = c["hidden_size"]
    if c["model_type"] == "opt":
        at = "language_model.model.decoder."
        yield at + "embed_tokens.weight", (c["vocab_size"], d)
        yield at + "embed_positions.weight", (c["max_position_embeddings"] + 2, d)
        for layer in range(c["num_hidden_layers"]):
            here = f"{at}layers.{layer}."
            for part in ["q_proj", "k_proj", "v_proj", "out_proj"]:
                yield from linear(f"{here}self_attn.{part}", d, d)
            yield from norm(here + "self_attn_layer_norm", d)
            yield from linear(here + "fc1", c["ffn_dim"], d)
            yield from linear(here + "fc2", d, c["ffn_dim"])
            yield from norm(here + "final_layer_norm", d)
        yield from norm(at + "final_layer_norm", d)
        return
    at = "language_model.model."
    yield at + "embed_tokens.weight", (c["vocab_size"], d)
    for layer in range(c["num_hidden_layers"]):
        here = f"{at}layers.{layer}."
        for part in ["q_proj", "k_proj", "v_proj", "o_proj"]:
            yield from linear(f"{here}self_attn.{part}", d, d, bias=False)
        for part in ["gate_proj", "up_proj"]:
            yield from linear(f"{here}mlp.{part}", c["intermediate_size"], d, bias=False)
        yield from linear(here + "mlp.down_proj", d, c["intermediate_size"], bias=False)
        yield from norm(here + "input_layernorm", d, bias=False)
        yield from norm(here + "post_attention_layernorm", d, bias=False)
    yield from norm(at + "norm", d, bias=False)
    yield "language_model.lm_head.weight", (c["vocab_size"], d)


def tensors(config):
    yield from tower(config["vision_config"])
    yield from bridge(config["qformer_config"], config["num_query_tokens"], config["text_config"]["hidden_size"])
    yield from decoder(config["text_config"])


def values(name, shape):
    """bf16 numbers as bits."""
    if name.endswith("bias"):
        return np.zeros(shape, np.uint16)
    if "norm" in name.lower():
        return np.full(shape, 0x3F80, np.uint16)
    stream = np.random.Generator(np.random.SFC64(zlib.crc32(name.encode())))
    bits = np.frombuffer(stream.bytes(2 * int(np.prod(shape))), np.uint16)
    # The sign and seven digits are random; the exponent says 2^-6.
    return (bits & 0x807F | 0x3C80).reshape(shape)


def write(path, named):
    header, place = {}, 0
    for name, shape in named:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in named:
            values(name, shape).tofile(file)
    return place


def words(text):
    """What the tokenizer makes of a text: words and marks."""
    return re.findall(r"\w+|[^\w\s]+", text)


def tokenizer():
    """A token per word, so that rows are as long as under a published vocabulary; words that nobody is
    asked about are all the same."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    known = sorted({word for text in [PROMPT, *ANSWERS] for word in words(text)})
    added = [
        {"id": i, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i, token in enumerate(special)
    ]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "unk_token": "<unk>",
                  "vocab": {token: i for i, token in enumerate(special + known)}},
    }


def make(shape, folder):
    """Writes the folder unless it is there; its weights in bytes."""
    folder = Path(folder)
    done = folder / "bytes"
    if done.exists():
        return int(done.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    config = SHAPES[shape]
    side = config["vision_config"]["image_size"]
    processor = {
        "image_processor_type": "BlipImageProcessor", "size": {"height": side, "width": side}, "resample": 3,
        "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
        "rescale_factor": 1 / 255, "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    for name, value in [("config", config), ("preprocessor_config", processor), ("tokenizer", tokenizer()),
                        ("tokenizer_config", {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"})]:
        (folder / f"{name}.json").write_text(json.dumps(value))
    shards, size = [[]], 0
    for name, shape in tensors(config):
        if size > SHARD:
            shards.append([])
            size = 0
        shards[-1].append((name, shape))
        size += 2 * int(np.prod(shape))
    total, places = 0, {}
    for i, named in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        total += write(folder / file, named)
        places |= {name: file for name, _ in named}
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    done.write_text(str(total))
    return total


def picture(path, number, side=224):
    """A PNG of coloured stripes."""
    y, x = np.mgrid[0:side, 0:side]
    colours = np.stack([x * (number + 3), y * 5 + 7 * number, x * y // 16 + number], -1).astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in colours)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    Path(path).write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
