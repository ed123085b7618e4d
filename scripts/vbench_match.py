#!/usr/bin/env python3
"""Which videos of an export does VBench's own code find? Runs the name matching of the package `vbench`
(VBench.build_full_info_json, VBenchLong.build_full_info_json) on the folders that `longtake vbench script` names, without any model:

    longtake vbench script vb/ > evaluate.sh
    scripts/vbench_match.py evaluate.sh [--package FOLDER]

FOLDER holds the unpacked wheel (pip download vbench --no-deps; unzip) where it is not installed. What the package imports and is not
there (torch, decord and others) is replaced by dummies. The names alone count: files may be empty. Exit code 0: every video that
VBench wants is there and every video that is there is used; 1: not so; 77: no package.
"""
import argparse
import collections
import contextlib
import importlib
import importlib.abc
import importlib.machinery
import io
import json
import os
import re
import shlex
import sys
import tempfile
import types
import unittest.mock


STANDARD_SAMPLES = 5  # of a prompt, in VBench's own code


class Dummies(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules that do nothing, for imports that nothing else provides."""

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in ("vbench", "vbench2_beta_long") else importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        class Dummy(types.ModuleType):
            def __getattr__(self, name):
                return unittest.mock.MagicMock(name=name) if not name.startswith("__") else super().__getattribute__(name)

        return Dummy(spec.name)

    def exec_module(self, module):
        module.__path__ = []


def load(package):
    if package:
        sys.path.insert(0, package)
    sys.meta_path.append(Dummies())
    try:
        vbench = importlib.import_module("vbench")
        long_videos = importlib.import_module("vbench2_beta_long")
    except ModuleNotFoundError:
        print("vbench_match: the package vbench is not installed; name its folder with --package", file=sys.stderr)
        sys.exit(77)
    return vbench, long_videos


def jobs_of(script):
    """(dimension, folder, samples or None) of every evaluation in the script; samples for VBench-Long."""
    text = open(script, encoding="utf-8").read()
    videos = shlex.split(re.search(r"^VIDEOS=(.*)$", text, re.M).group(1))[0]
    unfiltered = None
    for line in text.splitlines():
        words = shlex.split(line.replace("$VIDEOS", videos)) if re.match(r"(vbench|evaluate) ", line) else []
        option = lambda name: words[words.index(name) + 1]
        if words[:2] == ["vbench", "static_filter"]:
            unfiltered = option("--videos_path")  # what is left of these is decided by their content
        elif words[:2] == ["vbench", "evaluate"]:
            folder = option("--videos_path")
            yield option("--dimension"), unfiltered if "static_filter" in folder else folder, None
        elif words and words[0] == "evaluate":
            samples = option("--num_of_samples_per_prompt") if "--num_of_samples_per_prompt" in words else STANDARD_SAMPLES
            yield words[1], os.path.join(videos, words[2]), int(samples)


def split_into_clips(folder, names):
    """A folder as VBench-Long's splitting leaves it: the videos, and split_clip/NAME/NAME_000.mp4."""
    for name in names:
        open(os.path.join(folder, name), "wb").close()
    for stem in (os.path.splitext(name)[0] for name in names):
        os.makedirs(os.path.join(folder, "split_clip", stem))
        open(os.path.join(folder, "split_clip", stem, stem + "_000.mp4"), "wb").close()


def match(vbench, long_videos, info, dimension, folder, samples, work):
    """Names found after VBench's own code, and how many are missing by prompt."""
    out = os.path.join(work, "out")
    with contextlib.redirect_stdout(io.StringIO()):
        if samples is None:
            path = vbench.VBench("cpu", info, out).build_full_info_json(folder, dimension, [dimension])
        else:
            clips = tempfile.mkdtemp(dir=work)
            split_into_clips(clips, os.listdir(folder))
            # It takes the suffix of the first entry for that of all; the script checks this on the file system that is used.
            order = lambda path: sorted(listdir(path), key=lambda name: name == "split_clip")
            listdir = os.listdir
            with unittest.mock.patch.object(long_videos.os, "listdir", order):
                path = long_videos.VBenchLong("cpu", info, out).build_full_info_json(
                    clips, dimension, [dimension], mode="long_vbench_standard", num_of_samples_per_prompt=samples)
    found, missing = [], {}
    for entry in json.load(open(path, encoding="utf-8")):
        videos = entry["video_list"]
        found += [os.path.basename(video) if samples is None else os.path.basename(os.path.dirname(video)) + ".mp4" for video in videos]
        if len(videos) < (samples or STANDARD_SAMPLES):
            missing[entry["prompt_en"]] = (samples or STANDARD_SAMPLES) - len(videos)
    return found, missing


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script")
    parser.add_argument("--package")
    arguments = parser.parse_args()
    vbench, long_videos = load(arguments.package)
    info = os.path.join(os.path.dirname(vbench.__file__), "VBench_full_info.json")
    used = collections.defaultdict(set)
    wanted = faults = 0
    with tempfile.TemporaryDirectory() as work:
        for dimension, folder, samples in jobs_of(arguments.script):
            found, missing = match(vbench, long_videos, info, dimension, folder, samples, work)
            used[folder] |= set(found)
            lacking = sum(missing.values())
            wanted += len(found) + lacking
            faults += lacking
            print(f"{dimension}: {len(found)} found, {lacking} missing in {folder}")
            for prompt in list(missing)[:3]:
                print(f"  missing {missing[prompt]} of: {prompt}")
    unused = {folder: set(os.listdir(folder)) - names for folder, names in used.items()}
    for folder, names in unused.items():
        for name in sorted(names)[:3]:
            print(f"never used: {os.path.join(folder, name)}")
    faults += sum(len(names) for names in unused.values())
    print(f"{wanted} matches wanted in {len(used)} folders of {sum(len(n) for n in used.values())} videos used; {faults} faults")
    sys.exit(1 if faults else 0)


main()
