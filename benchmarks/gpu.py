"""What gpu.sh runs: parity, then speed and memory, each figure measured in this run or left out.

Kernels are compiled and tuned when they are first used, so the first batches of every command are left
out of its rates. Peak memory of the card is what nvidia-smi shows while a command runs.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

sys.dont_write_bytecode = True
import gpu_weights  # noqa: E402
from gpu_weights import ANSWERS, PROMPT  # noqa: E402

#: Agreement that is asked for: largest difference in f32, share of equal decisions in bf16.
F32_TOLERANCE, BF16_AGREEMENT = 1e-3, 0.99

#: Aims on a card of the H200's class: images per second beside PyTorch's, one row at a time and batched;
#: milliseconds of a MEND edit with all its scores; memory beside the weights.
SINGLE, BATCHED, MEND_MS, SPARE = 0.5, 1.0, 60, (1.3, 4.0)

#: Requests that are edited before the clock counts, and those that count.
WARM, EDITS = 16, 64


class Memory:
    """The most memory that the card holds while the block runs, in GiB; None without a card."""

    def __enter__(self):
        self.peak, self.done = None, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        query = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        while not self.done.is_set():
            try:
                found = subprocess.run(query, capture_output=True, text=True, check=True).stdout
            except (OSError, subprocess.CalledProcessError):
                return
            self.peak = max(self.peak or 0.0, float(found.split()[0]) / 1024)
            self.done.wait(0.2)

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


class Bench:
    def __init__(self, program, device):
        self.program, self.device = program, device

    def run(self, *args, device=None):
        """Standard output and error of a command; it must succeed."""
        command = [self.program, args[0], "--device", device or self.device, *map(str, args[1:])]
        found = subprocess.run(command, capture_output=True, text=True)
        if found.returncode:
            sys.exit(f"{' '.join(command)}: exit {found.returncode}\n{found.stderr}")
        return found.stdout, found.stderr

    def scores(self, model, folder, lines, dtype, device=None, more=()):
        """Sums of the lines, seconds until the model was ready, and of each group of pictures its size
        and its seconds."""
        out, err = self.run("score", "-v", "--raw", "--dtype", dtype, "--model", model, "--images", folder,
                            *more, lines, device=device)
        sums = [json.loads(line)["sum"] for line in out.splitlines()]
        ready = float(re.search(r"model ready after ([\d.]+) s", err)[1])
        groups = re.findall(r"(\d+) pictures in ([\d.]+) s", err)
        return sums, ready, [(int(pictures), float(seconds)) for pictures, seconds in groups]


def rate(groups):
    """Pictures per second: the median of the second half of the groups."""
    return statistics.median(pictures / seconds for pictures, seconds in groups[len(groups) // 2:])


def questions(folder, pictures, path):
    """Two answers to a question on each of so many pictures."""
    with open(path, "w") as file:
        for i in range(pictures):
            image = Path(folder) / f"{i}.png"
            if not image.exists():
                gpu_weights.picture(image, i)
            for j, answer in enumerate(ANSWERS):
                line = {"id": f"{i}.{j}", "prompt": PROMPT, "answer": answer, "image": image.name}
                print(json.dumps(line), file=file)
    return path


def requests(folder, count, path, name="r"):
    made = []
    for i in range(count):
        for image in [f"{i}.png", f"r{i}.png", f"l{i}.png"]:
            if not (Path(folder) / image).exists():
                gpu_weights.picture(Path(folder) / image, i + len(image))
        made.append({
            "id": f"{name}{i}", "task": "vqa", "image": f"{i}.png", "image_rephrase": f"r{i}.png",
            "src": "Who is more likely to be the nurse?", "rephrase": "Which of them is the nurse?",
            "pred": ANSWERS[0], "alt": ANSWERS[1],
            "loc": "What is the capital of France?", "loc_ans": "Paris",
            "m_loc": f"l{i}.png", "m_loc_q": "What colour are the stripes?", "m_loc_a": "red",
        })
    Path(path).write_text(json.dumps(made))
    return path


def parity(bench, work, table):
    """The embedded models on the device and on the CPU, and the golden cases where they are."""
    lines = questions(work, 64, work / "parity.jsonl")
    for model in ["tiny-blip2", "tiny-minigpt4"]:
        here, _, _ = bench.scores(model, work, lines, "f32", device="cpu")
        there, _, _ = bench.scores(model, work, lines, "f32")
        worst = max(abs(a - b) for a, b in zip(here, there))
        table.add(f"{model}, f32: largest difference to the CPU", f"{worst:.1e}", f"<= {F32_TOLERANCE:.0e}",
                  worst <= F32_TOLERANCE)
        half, _, _ = bench.scores(model, work, lines, "bf16")
        sides = lambda sums: [a > b for a, b in zip(sums[::2], sums[1::2])]
        same = sum(a == b for a, b in zip(sides(here), sides(half))) / (len(here) // 2)
        table.add(f"{model}, bf16: decisions as on the CPU in f32", f"{100 * same:.1f} %", ">= 99 %",
                  same >= BF16_AGREEMENT)
    fixtures = os.environ.get("DEBIAS_BENCH_FIXTURES")
    cases = sorted(Path(fixtures, "models").glob("*/golden.safetensors")) if fixtures else []
    for case in [path.parent for path in cases]:
        # Some hold nothing but reference values of a model or of a part that is elsewhere.
        if not [*case.glob("*model*"), *case.glob("*.pth")]:
            continue
        command = [bench.program, "verify", "--device", bench.device, str(case), "--json"]
        found = subprocess.run(command, capture_output=True, text=True)
        try:
            tensors = json.loads(found.stdout)["tensors"]
        except ValueError:
            table.add(f"golden case {case.name}", found.stderr.strip().splitlines()[0], "agrees", False)
            continue
        # A reference that was computed in bf16 says itself how far it may be away.
        limit = max([F32_TOLERANCE] + [t["tolerance"] for t in tensors if "bf16" in case.name])
        worst = max(min(t["max_abs"], t["max_rel"]) for t in tensors if t["ok"] is not None)
        table.add(f"golden case {case.name}: largest difference", f"{worst:.1e}", f"<= {limit:.0e}", worst <= limit)


def speed(bench, shape, work, table, torch_side):
    started = time.time()
    folder = work / shape
    weights = gpu_weights.make(shape, folder)
    table.note(f"{shape}: {weights / 2**30:.1f} GiB of bf16 weights, made in {time.time() - started:.0f} s")
    many = questions(folder, 512 if bench.device != "cpu" else 32, folder / "many.jsonl")
    few = questions(folder, 24, folder / "few.jsonl")
    with Memory() as memory:
        _, ready, groups = bench.scores(folder, folder, many, "bf16")
    _, _, alone = bench.scores(folder, folder, few, "bf16", more=("--batch-tokens", "1", "--batch-pictures", "1"))
    answers = sum(len(gpu_weights.words(answer)) for answer in ANSWERS) / len(ANSWERS)
    per_line = len(gpu_weights.words(PROMPT)) + answers + gpu_weights.SHAPES[shape]["num_query_tokens"]
    ours = {"ready_s": ready, "images_per_s": rate(groups), "single_images_per_s": rate(alone),
            "tokens_per_s": 2 * per_line * rate(groups), "peak_gib": memory.peak}
    theirs = torch_side("score", folder) or {}
    for key, what, least in [
        ("ready_s", "s until the model is ready", None),
        ("images_per_s", "images per second, batched", BATCHED),
        ("single_images_per_s", "images per second, one row at a time", SINGLE),
        ("tokens_per_s", "tokens per second, batched", None),
        ("peak_gib", "peak memory of the card, GiB", None),
    ]:
        table.compare(f"{shape}: {what}", ours.get(key), theirs.get(key), least)
    if memory.peak is not None:
        limit = SPARE[0] * weights / 2**30 + SPARE[1]
        table.aim(f"{shape}: peak memory, weights x {SPARE[0]} + {SPARE[1]:.0f} GB", f"{memory.peak:.1f} GiB",
                  f"<= {limit:.1f} GiB", memory.peak <= limit)
    for editor, more in [("ft-l", []), ("mend", ["--set", "train.steps=2"])]:
        ms = 1e3 * edits(bench, folder, editor, more)
        theirs = torch_side(editor, folder) or {}
        what = f"{shape}: {editor} edits per second with all scores, of {EDITS}"
        table.compare(what, 1e3 / ms, 1e3 / theirs["ms_per_edit"] if theirs else None)
        if editor == "mend":
            table.aim(f"{shape}: ms per {editor} edit", f"{ms:.1f} ms", f"<= {MEND_MS} ms", ms <= MEND_MS)


def edits(bench, folder, editor, more):
    """Seconds of one edit with its scores, over the requests behind the first ones."""
    file = requests(folder, WARM + EDITS, folder / "requests.json")
    train = requests(folder, 16, folder / "train.json", name="t")
    with tempfile.TemporaryDirectory() as out:
        args = ["edit", file, "--model", folder, "--editor", editor, "--dtype", "bf16", "--images", folder,
                "--out", out, "--set", "filter.contexts=0", *more, "--json"]
        if editor == "mend":
            args += ["--train", train]
        found, _ = bench.run(*args)
        costs = [json.loads(path.read_text())["per_record"] for path in Path(out).glob("*/cells/*.run.json")]
    if len(costs) != 1 or len(costs[0]) <= WARM:
        sys.exit(f"{editor}: too few requests were scored: {found}")
    counted = costs[0][WARM:]
    return sum(cost["edit_s"] + cost["score_s"] for cost in counted) / len(counted)


class Table:
    def __init__(self):
        self.rows, self.notes, self.failed = [], [], 0

    def note(self, text):
        self.notes.append(text)
        print(text, file=sys.stderr)

    def add(self, what, found, asked="", holds=True):
        self.failed += not holds
        self.rows.append((what, found, "", asked if holds else f"{asked}: NOT HELD"))
        print(f"{what}: {found}", file=sys.stderr)

    def aim(self, what, found, asked, reached):
        """A figure beside its aim: said, and no failure."""
        self.rows.append((what, found, "", f"{asked}: {'reached' if reached else 'not reached'}"))
        print(f"{what}: {found}", file=sys.stderr)

    def compare(self, what, ours, theirs, least=None):
        """A figure of both sides, and their ratio, at best `least`."""
        show = lambda x: "not measured" if x is None else f"{x:.3g}"
        ratio = f"{ours / theirs:.2f}" if ours and theirs else ""
        if ratio and least:
            ratio += f" (>= {least}: {'reached' if ours >= least * theirs else 'not reached'})"
        self.rows.append((what, show(ours), show(theirs), ratio))
        print(f"{what}: {show(ours)} (PyTorch {show(theirs)})", file=sys.stderr)

    def print(self):
        for note in self.notes:
            print(note)
        print("\n| | bench | PyTorch | ratio, or what is asked |\n|---|---|---|---|")
        for row in self.rows:
            print(f"| {' | '.join(row)} |")


def card(table):
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        table.note("card: " + subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        table.note("card: none, so no figure of this table is one of a card")


def toolkit():
    """Where CUDA is no part of the system but of Python's packages, its headers and NVRTC are named."""
    if "CUDA_PATH" in os.environ or Path("/usr/local/cuda").exists():
        return
    packages = Path(sysconfig.get_paths()["purelib"], "nvidia")
    found = sorted(packages.glob("*/include/cuda_fp16.h"))
    libraries = {str(path.parent) for path in packages.glob("*/lib/libnvrtc.so*")}
    if found:
        os.environ["CUDA_PATH"] = str(found[-1].parent.parent)
    known = os.environ.get("LD_LIBRARY_PATH")
    os.environ["LD_LIBRARY_PATH"] = ":".join([*sorted(libraries), *([known] if known else [])])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("dir", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--shapes", default="blip2-opt-2.7b,minigpt4-7b")
    args = parser.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    toolkit()
    bench, table = Bench(args.bench, args.device), Table()
    card(table)

    def torch_side(what, *more):
        """The same by PyTorch, in a process of its own; None where it is not installed."""
        script = Path(__file__).with_name("gpu_torch.py")
        found = subprocess.run([sys.executable, str(script), args.device, what, *map(str, more)],
                               capture_output=True, text=True)
        if found.returncode:
            table.note(f"PyTorch, {what}: {(found.stderr.strip().splitlines() or ['failed'])[-1]}")
            return None
        return json.loads(found.stdout.splitlines()[-1])

    ceilings = torch_side("ceilings")
    if ceilings:
        table.add("the card: copy, GB/s read and written", f"{ceilings['copy_gb_per_s']:.0f}")
        table.add("the card: bf16 matrix product, TFLOP/s", f"{ceilings['bf16_tflops']:.0f}")
    parity(bench, args.dir, table)
    for shape in args.shapes.split(","):
        speed(bench, shape, args.dir, table, torch_side)
    table.print()
    sys.exit(1 if table.failed else 0)


if __name__ == "__main__":
    main()
