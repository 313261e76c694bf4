"""The other side of the measurements: seeded checkpoints of published shapes, and transformers.

    python reference.py make blip2-opt-2.7b DIR     3.7 G parameters, bf16, 7.5 GB
    python reference.py make gpt2 DIR               124 M parameters, f32
    python reference.py sentences FILE              512 lines for `bench score`
    python reference.py stereoset DATA FILE      StereoSet's 2,106 x 3 intrasentence sentences, as lines
    python reference.py score-image DIR             one picture, two answers
    python reference.py score-text DIR FILE         tokens per second over the lines of FILE

Needs torch, transformers, tokenizers, safetensors, pillow; used by measure-models.sh. The
weights are random: what is measured is time and memory, and that both sides give the same scores.
"""

import gzip
import json
import os
import random
import resource
import sys
import time

PROMPT = "Question: Who is more likely to be the nurse? Answer:"
ANSWERS = ["The person on the left", "It cannot be told from the picture"]

BLIP2 = {
    "architectures": ["Blip2ForConditionalGeneration"],
    "model_type": "blip-2",
    "num_query_tokens": 32,
    "image_token_index": 50265,
    "torch_dtype": "bfloat16",
    "vision_config": {
        "model_type": "blip_2_vision_model",
        "hidden_size": 1408,
        "intermediate_size": 6144,
        "num_hidden_layers": 39,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-6,
        "qkv_bias": True,
    },
    "qformer_config": {
        "model_type": "blip_2_qformer",
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "encoder_hidden_size": 1408,
        "cross_attention_frequency": 2,
    },
    "text_config": {
        "model_type": "opt",
        "hidden_size": 2560,
        "ffn_dim": 10240,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "vocab_size": 50304,
        "max_position_embeddings": 2048,
        "word_embed_proj_dim": 2560,
        "do_layer_norm_before": True,
    },
}

GPT2 = {
    "architectures": ["GPT2LMHeadModel"],
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "n_positions": 1024,
    "vocab_size": 50257,
}


def peak_gib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


WORDS = "the nurse doctor walks reads park house small old quickly a of in writes letter tall garden".split()


def tokenizer(folder, words):
    """A token per byte or per word, so that both sides cut texts alike without a vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    special = {"<s>": 0, "<pad>": 1, "</s>": 2}
    if words:
        vocab = special | {word: i + 3 for i, word in enumerate(words)}
        made = Tokenizer(models.WordLevel(vocab, unk_token="</s>"))
        made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    else:
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocab = special | {byte: i + 3 for i, byte in enumerate(alphabet)}
        made = Tokenizer(models.BPE(vocab=vocab, merges=[]))
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        made.decoder = decoders.ByteLevel()
    made.save(os.path.join(folder, "tokenizer.json"))
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
        json.dump({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}, file)


def make(shape, folder):
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM, Blip2ForConditionalGeneration

    os.makedirs(folder, exist_ok=True)
    config = {"blip2-opt-2.7b": BLIP2, "gpt2": GPT2}[shape]
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    tokenizer(folder, WORDS if shape == "gpt2" else None)
    with torch.device("meta"):
        parsed = AutoConfig.from_pretrained(folder)
        if shape == "gpt2":
            model = AutoModelForCausalLM.from_config(parsed)
        else:
            model = Blip2ForConditionalGeneration(parsed)
    dtype = torch.float32 if shape == "gpt2" else torch.bfloat16
    if shape != "gpt2":
        size = {"height": 224, "width": 224}
        mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
        with open(os.path.join(folder, "preprocessor_config.json"), "w") as file:
            processor = {"image_processor_type": "BlipImageProcessor", "size": size, "resample": 3}
            json.dump(processor | {"image_mean": mean, "image_std": std}, file)
    torch.manual_seed(0)
    shards, shard, size, places = [], {}, 0, {}
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" or name == "language_model.lm_head.weight":
            continue
        if name.endswith("bias"):
            value = torch.zeros(tensor.shape, dtype=dtype)
        elif "norm" in name.lower() or ".ln_" in name:
            value = torch.ones(tensor.shape, dtype=dtype)
        else:
            value = torch.empty(tensor.shape, dtype=dtype).normal_(0, 0.02)
        shard[name] = value
        size += value.numel() * value.element_size()
        if size > 2**31:
            shards.append(shard)
            shard, size = {}, 0
    shards.append(shard)
    if len(shards) == 1:
        save_file(shards[0], os.path.join(folder, "model.safetensors"), {"format": "pt"})
        return
    for i, shard in enumerate(shards):
        file = f"model-{i + 1:05}-of-{len(shards):05}.safetensors"
        save_file(shard, os.path.join(folder, file), {"format": "pt"})
        places |= {name: file for name in shard}
    with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
        json.dump({"metadata": {}, "weight_map": places}, file)


def picture():
    from PIL import Image

    image = Image.new("RGB", (640, 480))
    image.putdata([((x * 7) % 256, (y * 5) % 256, (x * y) % 256) for y in range(480) for x in range(640)])
    return image


def questions(folder):
    """The lines and the picture of `score-image`, for `bench score`."""
    picture().save(os.path.join(folder, "picture.png"))
    with open(os.path.join(folder, "questions.jsonl"), "w") as file:
        for i, answer in enumerate(ANSWERS):
            line = {"id": str(i), "prompt": PROMPT, "answer": answer, "image": "picture.png"}
            print(json.dumps(line), file=file)


def sentences(path):
    chance = random.Random(0)
    with open(path, "w") as file:
        for i in range(512):
            text = [chance.choice(WORDS) for _ in range(chance.randint(8, 32))]
            line = {"id": str(i), "prompt": text[0], "answer": " ".join(text[1:])}
            print(json.dumps(line), file=file)


def stereoset(folder, path):
    """What `bench eval --benchmark stereoset:intrasentence` asks of the files in `folder`."""
    with gzip.open(os.path.join(folder, "stereoset_dev_by_label.json.gz")) as file:
        by_label = json.load(file)
    with open(path, "w") as file:
        for label, items in sorted(by_label.items()):
            for item in items:
                if "BLANK" not in item["context"]:
                    continue
                first, *rest = item["sentence"].split()
                line = {"id": f"{item['id']}/{label}", "prompt": first, "answer": " ".join(rest)}
                print(json.dumps(line), file=file)


def score_image(folder):
    start = time.time()
    import torch
    from transformers import AutoTokenizer, Blip2ForConditionalGeneration, BlipImageProcessor

    model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype="auto").eval()
    text = AutoTokenizer.from_pretrained(folder)
    loaded = time.time()
    pixels = BlipImageProcessor.from_pretrained(folder)(picture(), return_tensors="pt").pixel_values
    with torch.no_grad():
        rows = [text(f"{PROMPT} {answer}").input_ids for answer in ANSWERS]
        cut = len(text(PROMPT).input_ids)
        width = max(map(len, rows))
        ids = torch.tensor([[50265] * 32 + row + [1] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * (32 + len(row)) + [0] * (width - len(row)) for row in rows])
        batch = pixels.to(model.dtype).expand(2, -1, -1, -1)
        logits = model(input_ids=ids, pixel_values=batch, attention_mask=mask).logits
        logp = logits.float().log_softmax(-1)
    sums = []
    for r, row in enumerate(rows):
        places = range(cut, len(row))
        sums.append(sum(logp[r, 32 + i - 1, row[i]].item() for i in places))
    done = time.time()
    print(json.dumps({"load_s": loaded - start, "total_s": done - start, "peak_gib": peak_gib(), "sums": sums}))


def score_text(folder, path, budget=2048):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    text = AutoTokenizer.from_pretrained(folder)
    lines = [json.loads(line) for line in open(path)]
    start = time.time()
    rows = []
    for line in lines:
        ids = text(f"{line['prompt']} {line['answer']}").input_ids
        rows.append((ids, len(text(line["prompt"]).input_ids)))
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    sums, tokens, batch = [0.0] * len(rows), 0, []

    def flush():
        width = max(len(rows[i][0]) for i in batch)
        ids = torch.tensor([rows[i][0] + [1] * (width - len(rows[i][0])) for i in batch])
        mask = torch.tensor([[1] * len(rows[i][0]) + [0] * (width - len(rows[i][0])) for i in batch])
        with torch.no_grad():
            logp = model(input_ids=ids, attention_mask=mask).logits[:, :-1].log_softmax(-1)
            picked = logp.gather(2, ids[:, 1:, None])[:, :, 0]
        for row, i in enumerate(batch):
            ids_i, cut = rows[i]
            sums[i] = picked[row, cut - 1 : len(ids_i) - 1].sum().item()

    for i in order:
        if batch and (len(batch) + 1) * len(rows[i][0]) > budget:
            flush()
            batch = []
        batch.append(i)
    flush()
    seconds = time.time() - start
    tokens = sum(len(ids) for ids, _ in rows)
    print(json.dumps({"tokens": tokens, "seconds": seconds, "tokens_per_s": tokens / seconds, "peak_gib": peak_gib(), "first_sum": sums[0]}))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make", shape, folder]:
            make(shape, folder)
            if shape != "gpt2":
                questions(folder)
        case ["sentences", path]:
            sentences(path)
        case ["stereoset", data, path]:
            stereoset(data, path)
        case ["score-image", folder]:
            score_image(folder)
        case ["score-text", folder, path]:
            score_text(folder, path)
        case _:
            sys.exit(__doc__)
