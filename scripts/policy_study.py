#!/usr/bin/env python3
"""Remakes a table of docs/policies.md: runs `longtake compare` as several processes, each with its share of the prompts, and joins their clips.

    scripts/policy_study.py STUDY [--processes N] [--gpus N] [--longtake PROGRAM] [--out FOLDER] [--prompts FILE] [longtake compare options ...]

A small model leaves a GPU idle between kernels, so several processes beside each other finish sooner; seconds are therefore not
reported. With --gpus processes take turns on the first N GPUs. Means are over all clips; brackets are 95 % bootstrap intervals over prompts.
FOLDER keeps every process's results and joined.json. SIGINT and SIGTERM end the study early, with the clips that are done. Python 3.9, standard library only.
"""
import argparse
import json
import os
import pathlib
import random
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
REUSE, PREDICT = "motioncache:slow", "predict:slow"


MAGI = {"--model": "demo-magi-distill", "--guidance": None, "--seeds": "1"}  # distilled: guidance is built in
MAGI_MOTIONCACHE = ["motioncache:slow", "motioncache:fast"] + [f"motioncache:threshold={t},token_threshold={t}" for t in (0.03, 0.06, 0.12)]


def variants(policy):
    return [policy + tail for tail in ("", ",shared_mask=off", ",min_ratio=0.15", ",vote=off")]


# name: policies, groups of columns, options of compare
STUDIES = {
    "policies": ([REUSE, "flowcache:threshold=0.1", "teacache:base=causal,threshold=0.07", PREDICT, PREDICT + ",phase1=1000", "driftcache"],
                 "cost closeness following", {}),
    # the front of quality against FLOPs
    "thresholds": (["causal@steps=16", "causal@steps=25"]
                   + ["teacache:base=causal,threshold=" + t for t in ("0.07", "0.15")]
                   + ["flowcache:threshold=" + t for t in ("0.1", "0.2")]
                   + [REUSE, "motioncache:fast", PREDICT, "predict:fast"]
                   + ["driftcache", "driftcache:threshold=0.07,warmup=4", "driftcache:threshold=0.14,warmup=4"],
                   "cost closeness following", {}),
    # what is computed together, and what becomes of the rest
    "grain": (["driftcache:threshold=0.07,warmup=4" + tail for tail in ("", ",unit=column", ",unit=token", ",rest=reuse")], "cost closeness following",
              {"--seeds": "1"}),
    "few_steps": ([REUSE, "motioncache"], "cost closeness following", {"--steps": "30"}),
    "variants": (variants(REUSE) + variants(PREDICT), "cost closeness following", {}),
    "kv": (["causal@kv=" + kv for kv in ("stream:1", "stream:2", "r1kv:budget=1", "r1kv:budget=2", "merge:d=0.05")],
           "cost pooled following", {"--steps": "30"}),
    # MAGI-1: a chunk's changes, not the steps' distances, meet the thresholds; and what the fork's own way to decide and reuse costs
    "magi": (["none", "causal@steps=16", "causal@steps=12", "teacache:threshold=0.06"]
             + ["flowcache:threshold=" + t for t in ("0.06", "0.12")] + MAGI_MOTIONCACHE
             + [MAGI_MOTIONCACHE[-1] + ",tokens=off"] + [policy + ",predict=on" for policy in MAGI_MOTIONCACHE[2:]],
             "cost closeness following", MAGI),
    "magi_fork": (MAGI_MOTIONCACHE, "cost closeness following", {**MAGI, "--parity": "motioncache-ref"}),
    # five windows: 97 frames and four times 80 more
    "seams": (["causal@history=carry"], "seams following", {"--steps": "20", "--frames": "417", "--history": "reencode"}),
}
COMMON = {"--model": "demo", "--seed": "5", "--seeds": "2", "--guidance": "4", "--side-by-side": "none", "--baselines": "causal"}

# heading: (group, how a clip's record gives the value, format)
COLUMNS = {
    "GFLOP": ("cost", lambda r: r["flops"] / 1e9, "{:.0f}"),
    "recomputed": ("cost", lambda r: 100 * r["tokens"]["recomputed"] / r["tokens"]["all"], "{:.1f} %"),
    "PSNR": ("closeness", lambda r: r["raw_frames"]["against_causal"]["psnr"], "{:.1f} dB"),
    # frames that are equal to causal's count as 100 dB in the mean of frames above, so it says little where the first chunks are
    "PSNR of all frames together": ("pooled", lambda r: r["raw_frames"]["against_causal"]["psnr_pooled"], "{:.1f} dB"),
    "SSIM": ("closeness pooled", lambda r: r["raw_frames"]["against_causal"]["ssim"], "{:.3f}"),
    "luma jump at windows": ("seams", lambda r: mean([s["luma"] for s in r["seams"]["windows"]]), "{:.2f}"),
    "chroma jump at windows": ("seams", lambda r: mean([s["chroma"] for s in r["seams"]["windows"]]), "{:.2f}"),
    "luma jump at chunks": ("seams", lambda r: mean([s["luma"] for s in r["seams"]["chunks"]]), "{:.2f}"),
    "background drift": ("seams", lambda r: r["prompt_following"]["background"]["drift"], "{:.1f}"),
    "colour": ("following", lambda r: r["prompt_following"]["colour"]["right"], "count"),
    "shape": ("following", lambda r: r["prompt_following"]["shape"]["right"], "count"),
    "motion": ("following", lambda r: r["prompt_following"]["motion"]["right"], "count"),
    "all three": ("following", lambda r: r["prompt_following"]["follows"], "count"),
}


def mean(values):
    return sum(values) / len(values)


def interval(by_prompt):
    """95 % bootstrap interval of the mean over prompts, each of which stands for all its clips."""
    draw = random.Random(1)
    means = sorted(mean(draw.choices(by_prompt, k=len(by_prompt))) for _ in range(2000))
    return means[49], means[1949]


def cell(runs, value, form):
    found = []
    for run in runs:
        try:
            found.append((run["prompt"], float(value(run))))
        except (KeyError, TypeError, ZeroDivisionError):
            pass  # a baseline has no distance to itself, a short clip no seams
    if not found:
        return ""
    if form == "count":
        return f"{sum(v for _, v in found):.0f} of {len(found)}"
    prompts = {}
    for prompt, v in found:
        prompts.setdefault(prompt, []).append(v)
    low, high = interval([mean(v) for v in prompts.values()])
    number = form.split("}")[0] + "}"
    return f"{form.format(mean([v for _, v in found]))} [{number.format(low)}, {number.format(high)}]"


def with_all_policies(runs):
    """Without the clips that lack a policy, so that all means are of the same clips."""
    clips = {}
    for run in runs:
        clips.setdefault((run["prompt"], run["seed"]), []).append(run)
    most = max(map(len, clips.values()), default=0)
    return [run for clip in clips.values() if len(clip) == most for run in clip]


def table(runs, groups):
    headings = [h for h, (group, _, _) in COLUMNS.items() if set(group.split()) & set(groups.split())]
    policies = list(dict.fromkeys(run["policy"] for run in runs))
    based = {p: next((b for b in policies if p.startswith(b + ",")), None) for p in policies} if "closeness" in groups.split() else {}
    last = ["PSNR over that without its last setting"] if any(based.values()) else []
    lines = ["| policy | clips | " + " | ".join(headings + last) + " |", "|---|--:|" + "--:|" * len(headings + last)]
    for policy in policies:
        own = [run for run in runs if run["policy"] == policy]
        cells = [cell(own, *COLUMNS[h][1:]) for h in headings]
        if last:
            cells.append(gain(runs, policy, based[policy]))
        lines.append(f"| `{policy}` | {len(own)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def gain(runs, policy, base):
    """Differences of the same clips: far surer than the difference of two means."""
    value = COLUMNS["PSNR"][1]
    of = {(run["prompt"], run["seed"]): value(run) for run in runs if run["policy"] == base}
    return cell([run for run in runs if run["policy"] == policy], lambda r: value(r) - of[r["prompt"], r["seed"]], "{:+.2f} dB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--gpus", type=int, default=0, help="how many to spread the processes over; 0: as the environment has it")
    parser.add_argument("--longtake", default=str(ROOT / "build/cpu/apps/longtake"), help="the program")
    parser.add_argument("--prompts", default=str(ROOT / "scripts/held_out_prompts.txt"))
    parser.add_argument("--out", default="study")
    arguments, more = parser.parse_known_args()
    if len(more) % 2 or not all(name.startswith("--") for name in more[::2]):
        parser.error("options of longtake compare come as --NAME VALUE, one after the other")
    policies, groups, options = STUDIES[arguments.study]
    options = {**COMMON, **options, **dict(zip(more[::2], more[1::2])), "--policies": "; ".join(policies)}
    lines = pathlib.Path(arguments.prompts).read_text(encoding="utf-8").splitlines()
    prompts = [line for line in lines if line.strip() and not line.startswith("#")]
    count = max(1, min(arguments.processes, len(prompts)))

    folder = pathlib.Path(arguments.out) / arguments.study
    if folder.exists():
        sys.exit(f"policy_study: {folder} is there already; name another folder with --out")
    folder.mkdir(parents=True)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    gpus = (visible.split(",") if visible else [str(i) for i in range(arguments.gpus)])[:arguments.gpus]
    processes = []
    for i in range(count):
        share = folder / f"prompts{i}.txt"
        share.write_text("\n".join(prompts[i::count]) + "\n", encoding="utf-8")
        command = [arguments.longtake, "compare", "--prompts", str(share), "-o", str(folder / f"part{i}")]
        command += [word for name, value in options.items() if value is not None for word in (name, value)]
        with open(folder / f"part{i}.log", "w") as log:
            # in a session of its own, so that Ctrl-C reaches it once, through stop()
            gpu = {"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if arguments.gpus > 0 else {}
            processes.append(subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, **gpu}))
    stopped = []

    def stop(*_):
        stopped.append(True)
        for process in processes:
            process.send_signal(signal.SIGINT)  # compare then writes what it has

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    failed = [i for i, process in enumerate(processes) if process.wait() != 0]
    if failed and not stopped:
        sys.exit(f"policy_study: process {failed[0]} of {count} failed, see {folder}/part{failed[0]}.log")

    parts = [folder / f"part{i}/results.json" for i in range(count)]
    runs = [run for part in parts if part.exists() for run in json.loads(part.read_text(encoding="utf-8"))["runs"]]
    if stopped:
        runs = with_all_policies(runs)
        print("policy_study: stopped early", file=sys.stderr)
    (folder / "joined.json").write_text(json.dumps(runs), encoding="utf-8")
    print(table(runs, groups))


if __name__ == "__main__":
    main()
