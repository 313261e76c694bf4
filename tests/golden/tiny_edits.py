"""Reference log-likelihoods after fine-tuning edits of an embedded model, by PyTorch and transformers.

    python tests/golden/tiny_edits.py crates/bench/models/tiny-blip2 > tests/golden/tiny-blip2-edits.json

FT-L and FT-V as `spec/editors.md` 3.1 writes them: AdamW with weight decay 0.01 on the feed-forward
matrices of the last decoder layer, or on every parameter of the Q-Former, minimising the token-mean
negative log-likelihood of the target. Nothing of this project's code takes part.
"""
import json
import sys

import tokenizers
import torch
import transformers
from tokenizers import Tokenizer
from transformers import Blip2ForConditionalGeneration

PROMPT = "Question: Is this person rich or poor? Short answer:"
Y_MORE, Y_LESS = "rich", "poor"
STEPS = [1, 2, 3, 15]
RATES = {"ft-l": 1e-3, "ft-v": 3e-4}


def pixel(x, y, c):
    return (7 * x + 13 * y + 29 * c + x * y) % 256


class Reference:
    def __init__(self, folder):
        self.config = json.load(open(f"{folder}/config.json"))
        preprocessor = json.load(open(f"{folder}/preprocessor_config.json"))
        self.tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        self.model = Blip2ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        side = self.config["vision_config"]["image_size"]
        image = torch.tensor(
            [[[pixel(x, y, c) / 255 for x in range(side)] for y in range(side)] for c in range(3)]
        )
        mean = torch.tensor(preprocessor["image_mean"])[:, None, None]
        std = torch.tensor(preprocessor["image_std"])[:, None, None]
        with torch.no_grad():
            pixels = ((image - mean) / std)[None]
            self.seen = self.model.vision_model(pixel_values=pixels).last_hidden_state

    def encode(self, text, special):
        return self.tokenizer.encode(text, add_special_tokens=special).ids

    def answer(self, answer):
        """Log-probabilities of the answer's tokens."""
        model = self.model
        queries = model.qformer(
            query_embeds=model.query_tokens, encoder_hidden_states=self.seen
        ).last_hidden_state
        prefix = model.language_projection(queries)
        embed = model.language_model.get_input_embeddings()
        wrapper = self.config.get("image_wrapper")
        front = self.encode(PROMPT, wrapper is None)
        ids = self.encode(f"{PROMPT} {answer}", wrapper is None)
        assert ids[: len(front)] == front
        before = self.encode(wrapper["before"], True) if wrapper else []
        after = self.encode(wrapper["after"], False) if wrapper else []
        pieces = [embed(torch.tensor([before], dtype=torch.long))] if before else []
        pieces += [prefix, embed(torch.tensor([after + ids]))]
        logits = model.language_model(inputs_embeds=torch.cat(pieces, 1)).logits[0]
        n = len(ids) - len(front)
        logp = torch.log_softmax(logits[-n - 1 : -1], -1)
        return logp[torch.arange(n), torch.tensor(ids[len(front) :])]

    def sums(self):
        with torch.no_grad():
            return {name: self.answer(text).double().sum().item() for name, text in (("y_more", Y_MORE), ("y_less", Y_LESS))}

    def parameters(self, editor):
        if editor == "ft-v":
            return [p for name, p in self.model.named_parameters() if "qformer." in name]
        last = self.config["text_config"]["num_hidden_layers"] - 1
        ends = (".fc1.weight", ".fc2.weight", ".mlp.up_proj.weight", ".mlp.down_proj.weight")
        return [
            p
            for name, p in self.model.named_parameters()
            if "language_model" in name and f"layers.{last}." in name and name.endswith(ends)
        ]


def main(folder):
    edits = {}
    for editor, lr in RATES.items():
        reference = Reference(folder)
        chosen = reference.parameters(editor)
        for parameter in reference.model.parameters():
            parameter.requires_grad_(False)
        for parameter in chosen:
            parameter.requires_grad_(True)
        optimiser = torch.optim.AdamW(chosen, lr=lr, weight_decay=0.01)
        after = {}
        for step in range(1, max(STEPS) + 1):
            optimiser.zero_grad()
            (-reference.answer(Y_LESS).mean()).backward()
            optimiser.step()
            if step in STEPS:
                after[str(step)] = reference.sums()
        edits[editor] = {"lr": lr, "parameters": len(chosen), "after": after}
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "tokenizers": tokenizers.__version__}
    json.dump({"made_with": versions, "edits": edits}, sys.stdout, indent=1)
    print()


main(sys.argv[1])
