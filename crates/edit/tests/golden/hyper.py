"""Expected values for MEND's transform and KE's conditioner, computed densely with numpy in f64.

Written from the papers (Mitchell et al. 2022, section 3; De Cao et al. 2021, section 4.2), without
any code of this project: python3 hyper.py > hyper.json
"""

import json

import numpy as np

rng = np.random.default_rng(7)


def draw(*shape, scale=1.0):
    return np.round(rng.normal(size=shape) * scale, 4)


def listed(value):
    if isinstance(value, dict):
        return {key: listed(item) for key, item in value.items()}
    return np.asarray(value).tolist()


def mend():
    d_in, d_out, rank = 3, 2, 4
    d = d_in + d_out
    # Tokens seen in training, of which the running statistics are made.
    seen_x, seen_delta = draw(9, d_in, scale=2.0) + 1.0, draw(9, d_out, scale=0.1)
    blocks = [
        {
            "u": draw(d, rank, scale=0.3),
            "v": draw(rank, d),
            "b": draw(1, d, scale=0.2),
            "s": 1.0 + draw(2, d, scale=0.2),
            "t": draw(2, d, scale=0.2),
        }
        for _ in range(2)
    ]
    rates = [0.013, 0.007]
    x = [draw(3, d_in), draw(2, d_in)]
    delta = [draw(3, d_out, scale=0.1), draw(2, d_out, scale=0.1)]

    def normal(rows, seen):
        return (rows - seen.mean(0)) / (seen.std(0, ddof=1) + 1e-7)

    gradients = []
    for matrix in range(2):
        z = np.concatenate([normal(x[matrix], seen_x), normal(delta[matrix], seen_delta)], 1)
        for block in blocks:
            inner = (block["u"] @ (block["v"] @ z.T)).T + block["b"]
            z = z + np.maximum(0.0, block["s"][matrix] * inner + block["t"][matrix])
        pseudo = sum(np.outer(row[d_in:], row[:d_in]) for row in z)
        gradients.append(-rates[matrix] * pseudo)
    return {
        "seen_x": seen_x,
        "seen_delta": seen_delta,
        "blocks": blocks,
        "rates": rates,
        "x": {"0": x[0], "1": x[1]},
        "delta": {"0": delta[0], "1": delta[1]},
        "updates": {"0": gradients[0], "1": gradients[1]},
    }


def sigmoid(value):
    return 1.0 / (1.0 + np.exp(-value))


def softmax(value):
    value = np.exp(value - value.max())
    return value / value.sum()


def lstm(rows, weights):
    h = weights["hidden"].shape[1]
    state, cell = np.zeros(h), np.zeros(h)
    for row in rows:
        gates = (
            weights["input"] @ row
            + weights["input_bias"][0]
            + weights["hidden"] @ state
            + weights["hidden_bias"][0]
        )
        i, f, g, o = np.split(gates, 4)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
        state = sigmoid(o) * np.tanh(cell)
    return state


def normed(part, x):
    v = part["v"]
    weight = part["g"] * v / np.linalg.norm(v, axis=1, keepdims=True)
    return weight @ x + part["b"][0]


def ke():
    d, h, c, d_in, d_out, scale = 3, 2, 4, 3, 2, 0.8
    table = draw(6, d)
    way = lambda: {
        "input": draw(4 * h, d, scale=0.5),
        "hidden": draw(4 * h, h, scale=0.5),
        "input_bias": draw(1, 4 * h, scale=0.5),
        "hidden_bias": draw(1, 4 * h, scale=0.5),
    }
    forward, backward = way(), way()
    out, out_bias = draw(c, 2 * h), draw(1, c)
    wide = 2 * (d_in + d_out) + 1
    inner = {"v": draw(h, c), "g": draw(h, 1), "b": draw(1, h)}
    outer = {"v": draw(wide, h), "g": draw(wide, 1), "b": draw(1, wide)}
    # Two requests of different lengths, so that padding would show.
    texts = [[5, 1, 4], [2]]
    x = [draw(2, d_in), draw(1, d_in)]
    delta = [draw(2, d_out, scale=0.1), draw(1, d_out, scale=0.1)]
    updates = []
    for text, rows, errors in zip(texts, x, delta):
        vectors = table[text]
        both = np.concatenate([lstm(vectors, forward), lstm(vectors[::-1], backward)])
        condition = np.tanh(out @ both + out_bias[0])
        all_ = normed(outer, np.tanh(normed(inner, condition)))
        col_a, row_a, col_b, row_b, eta = np.split(
            all_, np.cumsum([d_in, d_out, d_in, d_out])
        )
        gradient = errors.T @ rows
        a = np.outer(softmax(row_a), col_a)
        b = np.outer(softmax(row_b), col_b)
        updates.append(scale * sigmoid(eta[0]) * (gradient * a + b))
    return {
        "table": table,
        "forward": forward,
        "backward": backward,
        "out": out,
        "out_bias": out_bias,
        "inner": inner,
        "outer": outer,
        "texts": [list(map(int, text)) for text in texts],
        "x": np.concatenate(x),
        "delta": np.concatenate(delta),
        "tokens": [2, 1],
        "max_scale": scale,
        "updates": {"0": updates[0], "1": updates[1]},
    }


def main():
    values = {"mend": mend(), "ke": ke()}
    texts, tokens = values["ke"]["texts"], values["ke"]["tokens"]
    blocks = [listed(block) for block in values["mend"].pop("blocks")]
    values = listed({k: {n: v for n, v in part.items() if n not in ("texts", "tokens")} for k, part in values.items()})
    values["mend"]["blocks"] = blocks
    values["ke"]["texts"], values["ke"]["tokens"] = texts, tokens
    print(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
