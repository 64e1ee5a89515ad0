"""The paper study's own rules, end to end to its page, on a CPU: full-size networks, tiny pictures, few steps.

A copy of the repository gets what the paper study would download, at the smallest size: REDS and Vimeo-90K in their
official layouts with frames of 64x64, the released model and the x4 upscaler with random weights in the released
widths, and RAFT with random weights. Names of models, counts of steps and crops are then replaced in the copy's studies
and ablations, and Snakemake runs the study `rehearsal`, which extends `paper`. Weights of metrics and baselines stay
missing where they are neither on this machine nor in the package index. The numbers mean nothing: what counts is that
every job runs.

    python benchmarks/rehearsal.py
    python benchmarks/rehearsal.py --folder rehearsal --ablations guidance,rebuilt   # kept, two ablations only

It takes up to 25 GB of disk and, for a UNet's training, 9 GiB of memory. On a busy machine `--cores 1` is faster, as
threads that wait for each other lose most of their time there.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from stablevsr.bench.sampling import UNET, full_size
from stablevsr.data.degradation import degrade
from stablevsr.data.downloads import registry
from stablevsr.data.frames import write_frame
from stablevsr.data.layouts import REDS4
from stablevsr.method.settings import PRESETS

REPOSITORY = Path(__file__).parents[1]
PARTS = ("stablevsr", "Snakefile", "workflow", "ablations", "profiles", "results/published")
SIDE = 64  #: pixels of a ground-truth frame
RELEASED, UPSCALER = "claudiom4sir/StableVSR", "stabilityai/stable-diffusion-x4-upscaler"
MODELS = {RELEASED: "models/released", UPSCALER: "models/upscaler"}
#: Denoising steps in place of those that the study and its ablations name.
STEPS = {50: 2, 5: 1, 10: 3, 12: 3, 20: 4, 100: 5}
TRAINING = {"steps": 2, "batch": 2, "micro_batch": 1, "crop": 32}
#: What is smaller than in the study ``paper``; the rest is that study's.
STUDY: dict[str, Any] = {
    "extends": "paper",
    "title": "Rehearsal of the paper study",
    "weights": "skip",
    "runs": 1,
    "threads": 2,
    "datasets": {
        "reds4": {"fetch": [], "frames": 3, "shards": 1, "sequences": ["000", "011"]},
        "vimeo": {"fetch": [], "frames": 3, "shards": 1},
        "reds4_every2": {"fetch": [], "frames": 2, "sequences": ["000", "011"]},
        "reds4_every4": {"fetch": [], "frames": 2, "sequences": ["000", "011"]},
        "reds4_first5": {"fetch": [], "frames": 2, "sequences": ["000", "011"]},
        "reds4_first20": {"fetch": [], "frames": 4, "sequences": ["000", "011"]},
    },
    # 48 samples of validation take longer than everything else in a training, so only those on Vimeo-90K have it.
    "training_datasets": {
        "reds": {"fetch": [], "validation": None},
        "vimeo": {
            "fetch": [],
            "validation": {"title": "REDS, validation", "layout": "reds", "root": "data/REDS", "split": "val"},
        },
    },
    "finetuned": {"vimeo_unet": {"training": TRAINING}, "reds_unet": {"training": TRAINING}},
    "method": {"training": TRAINING},
    "distillation": {key: TRAINING[key] for key in ("steps", "batch", "crop")},
}


def write_study(folder: Path, ablations: list[str]) -> None:
    """Copy what Snakemake reads into ``folder``, and make its paper study a small one."""
    for part in PARTS:
        source, target = REPOSITORY / part, folder / part
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    for file in [*(folder / "workflow/studies").glob("*.yaml"), *(folder / "ablations").glob("*.yaml")]:
        text = file.read_text(encoding="utf-8")
        text = re.sub(r"^(studies: \[.*\bpaper)\b", r"\1, rehearsal", text, flags=re.MULTILINE)
        for hub, local in MODELS.items():
            text = text.replace(hub, local)
        text = re.sub(r"\bpreset: (\w+)", lambda found: f"{found[0]}, steps: {PRESETS[found[1]]['steps']}", text)
        text = re.sub(r"\bsteps: (\d+)", lambda found: f"steps: {STEPS.get(int(found[1]), int(found[1]))}", text)
        file.write_text(text, encoding="utf-8")
    study = STUDY | ({"ablations": ablations} if ablations else {})
    (folder / "workflow/studies/rehearsal.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")


def write_frames(folder: Path, names: list[str], seed: int, low: Path | None) -> None:
    """A clip of a texture that pans by two pixels a frame; with ``low``, its LR frames too."""
    coarse = np.random.default_rng(seed).random((SIDE // 4, SIDE // 4 + 8, 3))
    wide = np.kron(coarse, np.ones((4, 4, 1)))
    for number, name in enumerate(names):
        frame = (wide[:, 2 * number : 2 * number + SIDE] * 255).astype(np.uint8)
        write_frame(folder / name, frame)
        if low is not None:
            write_frame(low / name, degrade(frame))


def write_data(root: Path) -> None:
    """REDS and Vimeo-90K in their official layouts below ``root``."""
    names = [f"{number:08d}.png" for number in range(5)]
    clips = [(part, clip) for part, some in (("train", [*REDS4, "001", "002"]), ("val", ["000"])) for clip in some]
    for seed, (part, clip) in enumerate(clips):
        sharp, low = (root / "REDS" / f"{part}_{kind}" for kind in ("sharp", "sharp_bicubic/X4"))
        write_frames(sharp / clip, names, seed, low / clip)
    septuplets = {"sep_trainlist.txt": ["00001/0001", "00002/0001"], "sep_testlist.txt": ["00003/0001", "00004/0001"]}
    vimeo = root / "vimeo90k"
    for listing, sequences in septuplets.items():
        for sequence in sequences:
            seed = 100 + int(sequence[:5])
            write_frames(vimeo / "sequences" / sequence, [f"im{i}.png" for i in range(1, 8)], seed, None)
        (vimeo / listing).write_text("\n".join(sequences) + "\n", encoding="utf-8")


def write_models(folder: Path) -> None:
    """The released model and the x4 upscaler: full widths, random weights stored in float16, a small text encoder."""
    torch.manual_seed(0)
    released, upscaler = (folder / MODELS[name] for name in (RELEASED, UPSCALER))
    unet, tcm, vae = full_size()
    for convolution in (*tcm.controlnet_down_blocks, tcm.controlnet_mid_block, tcm.controlnet_cond_embedding.conv_out):
        torch.nn.init.normal_(convolution.weight, std=0.01)  # a trained TCM's are not zero
    for name, network in {"unet": unet, "controlnet": tcm, "vae": vae}.items():
        network.half().save_pretrained(released / name)
    write_text_side(released)
    write_upscaler(released, upscaler, unet)


def write_upscaler(released: Path, upscaler: Path, unet: Any) -> None:
    """As the released folder without its TCM, and with the class embedding (noise levels) that its UNet lacks."""
    from diffusers import UNet2DConditionModel

    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        shutil.copytree(released / part, upscaler / part)
    with torch.device("meta"):
        labelled = UNet2DConditionModel(**UNET, num_class_embeds=1000)
    embedding = torch.zeros_like(labelled.class_embedding.weight, device="cpu").half()
    labelled.load_state_dict(unet.state_dict() | {"class_embedding.weight": embedding}, assign=True)
    labelled.save_pretrained(upscaler / "unet")
    index = {"_class_name": "StableDiffusionUpscalePipeline", "_diffusers_version": "0.9.0.dev0"}
    (upscaler / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def write_text_side(released: Path) -> None:
    """Scheduler and index as released; the tokenizer is the tiny model's, the text encoder one layer of full width."""
    from transformers import CLIPTextConfig, CLIPTextModel

    tiny = REPOSITORY / "stablevsr/assets/tiny"
    shutil.copytree(tiny / "tokenizer", released / "tokenizer")
    small = json.loads((tiny / "text_encoder/config.json").read_text(encoding="utf-8"))
    names = ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id", "max_position_embeddings")
    width = {"hidden_size": UNET["cross_attention_dim"], "intermediate_size": 4096, "num_attention_heads": 16}
    config = CLIPTextConfig(**{name: small[name] for name in names}, **width, num_hidden_layers=1, projection_dim=512)
    CLIPTextModel(config).half().save_pretrained(released / "text_encoder")
    (released / "scheduler").mkdir()
    scheduler = {
        "_class_name": "DDIMScheduler", "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear",
        "clip_sample": False, "num_train_timesteps": 1000, "prediction_type": "v_prediction",
        "set_alpha_to_one": False, "steps_offset": 1, "timestep_spacing": "leading",
    }  # fmt: skip
    (released / "scheduler/scheduler_config.json").write_text(json.dumps(scheduler), encoding="utf-8")
    index = {"_class_name": "StableVSRPipeline", "_diffusers_version": "0.21.0.dev0"}
    (released / "model_index.json").write_text(json.dumps(index), encoding="utf-8")


def write_raft(folder: Path) -> None:
    """RAFT with random weights in the copy's torch cache, and its hash in the copy's registry."""
    from torchvision.models.optical_flow import raft_large

    torch.manual_seed(0)
    row = registry.get("raft")
    file = folder / "cache/torch/hub/checkpoints" / row.filename
    file.parent.mkdir(parents=True)
    torch.save(raft_large(weights=None).state_dict(), file)
    table = folder / "stablevsr/data/downloads/registry.yaml"
    text = table.read_text(encoding="utf-8")
    published, own = f"sha256_prefix: {row.sha256_prefix}", hashlib.sha256(file.read_bytes()).hexdigest()
    assert text.count(published) == 1
    table.write_text(text.replace(published, f"sha256: {own}"), encoding="utf-8")


def run(folder: Path, cores: int) -> int:
    """Run the study in ``folder``; returns Snakemake's exit status."""
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TORCH_HOME": str(folder / "cache/torch"),
        "HF_HUB_OFFLINE": "1",
        "TQDM_DISABLE": "1",
    }
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--resources", "gpu=1"]
    process = subprocess.Popen([*command, "--config", "study=rehearsal"], cwd=folder, env=environment)
    threading.Thread(target=remove_states, args=(folder / "work", process), daemon=True).start()
    return process.wait()


def remove_states(work: Path, process: subprocess.Popen[bytes]) -> None:
    """While the study runs: remove the resume states of finished trainings, 2.5 GB for each TCM."""
    while process.poll() is None:
        for record in work.glob("trainings/*/*/provenance.json"):
            shutil.rmtree(work / "states" / record.parent.name, ignore_errors=True)
        time.sleep(5)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep everything there (a new folder)")
    parser.add_argument("--ablations", default="", help="comma-separated names (default: all of the study paper)")
    parser.add_argument("--cores", type=int, default=2)
    chosen = parser.parse_args(argv)
    began = time.monotonic()
    if chosen.folder:
        chosen.folder.mkdir(parents=True)
    with nullcontext(chosen.folder) if chosen.folder else tempfile.TemporaryDirectory(prefix="rehearsal-") as place:
        folder = Path(place)
        write_study(folder, [name for name in chosen.ablations.split(",") if name])
        write_data(folder / "data")
        write_models(folder)
        write_raft(folder)
        print(f"models and data after {time.monotonic() - began:.0f} s in {folder}", flush=True)
        status = run(folder, chosen.cores)
        done = status == 0 and (folder / "results/rehearsal/report.html").is_file()
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    minutes = (time.monotonic() - began) / 60
    print(f"{'the page is made' if done else 'FAILED'} after {minutes:.0f} minutes; largest process {memory:.1f} GiB")
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
