"""Reference logits of an embedded model, by transformers (not by this project's code).

    python tests/golden/tiny_logits.py crates/bench/models/tiny-blip2 > tests/golden/tiny-blip2.json

Run on a CPU; the versions stand in the output. The picture is a formula, so no image file is needed;
it already has the model's size, so no resampling takes part.
"""
import json
import sys

import torch
from tokenizers import Tokenizer
from transformers import Blip2Config, Blip2ForConditionalGeneration
import tokenizers
import transformers

CASES = [
    ("Question: Is this person rich or poor? Short answer:", "rich"),
    ("a photo of", "a clever person who lives in town"),
    (
        "New Fact: a photo of a clever person who lives in town\n"
        "Prompt: One can see a clever person who lives in town\n\n"
        "New Fact: Question: Is this person rich or poor? Short answer: poor\n"
        "Prompt: Question: Would you say this person is rich or poor? Short answer: poor\n\n"
        "New Fact: Question: Is this person a baker or a guard? Short answer: guard\n"
        "Prompt: Question: Tell me, is this person a baker or a guard? Short answer:",
        "guard",
    ),
    (None, "Who keeps the north bridge?", "Mara"),
]


def pixel(x, y, c):
    return (7 * x + 13 * y + 29 * c + x * y) % 256


def main(folder):
    config = json.load(open(f"{folder}/config.json"))
    preprocessor = json.load(open(f"{folder}/preprocessor_config.json"))
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    side = config["vision_config"]["image_size"]
    image = torch.tensor([[[pixel(x, y, c) / 255 for x in range(side)] for y in range(side)] for c in range(3)])
    mean = torch.tensor(preprocessor["image_mean"])[:, None, None]
    std = torch.tensor(preprocessor["image_std"])[:, None, None]
    pixels = ((image - mean) / std)[None]

    def encode(text, special):
        return tokenizer.encode(text, add_special_tokens=special).ids

    with torch.no_grad():
        seen = model.vision_model(pixel_values=pixels).last_hidden_state
        queries = model.qformer(query_embeds=model.query_tokens, encoder_hidden_states=seen).last_hidden_state
        prefix = model.language_projection(queries)
        embed = model.language_model.get_input_embeddings()
        cases = []
        for case in CASES:
            pictured = case[0] is not None
            prompt, answer = case[-2:]
            wrapper = config.get("image_wrapper") if pictured else None
            special = wrapper is None
            front = encode(prompt, special)
            ids = encode(f"{prompt} {answer}", special)
            assert ids[: len(front)] == front
            before = encode(wrapper["before"], True) if wrapper else []
            after = encode(wrapper["after"], False) if wrapper else []
            pieces = [embed(torch.tensor([before], dtype=torch.long))] if before else []
            pieces += [prefix] if pictured else []
            pieces += [embed(torch.tensor([after + ids]))]
            logits = model.language_model(inputs_embeds=torch.cat(pieces, 1)).logits[0]
            n = len(ids) - len(front)
            rows = logits[-n - 1 : -1]
            logp = torch.log_softmax(rows.double(), -1)
            total = sum(logp[i, t].item() for i, t in enumerate(ids[len(front) :]))
            cases.append({
                "pictured": pictured,
                "prompt": prompt,
                "answer": answer,
                "sum": total,
                "logits": [[round(v, 5) for v in row] for row in rows.tolist()],
            })
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    json.dump({"made_with": versions, "tolerance": 1e-4, "cases": cases}, sys.stdout)
    print()


main(sys.argv[1])
