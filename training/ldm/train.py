"""Training of one latent diffusion model, from files to a folder that `--weights` takes (paper, section 3.1)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from gtg_bench.benchmark.api.errors import DataError, GtgError, UsageError
from gtg_bench.benchmark.api.types import Dataset, seed_for
from gtg_bench.benchmark.datasets import open_dataset
from gtg_bench.benchmark.datasets.training import TrainingSet, open_training_set
from gtg_bench.benchmark.report.training_files import part_folder
from gtg_bench.benchmark.runs.revision import git_revision
from gtg_bench.methods.ldm.attention import select_layers
from gtg_bench.methods.weights import Weights
from gtg_bench.training.cards import NOTICE
from gtg_bench.training.ldm.appearance import ChangedImages
from gtg_bench.training.ldm.encoded import Encoder
from gtg_bench.training.ldm.examples import LatentDraws
from gtg_bench.training.ldm.export import Exporter
from gtg_bench.training.ldm.models import TrainableLdm, load_models, locate_parts
from gtg_bench.training.ldm.objective import NoiseObjective
from gtg_bench.training.ldm.separation import Captions, PairedDraws, SeparationObjective, trained_names
from gtg_bench.training.ldm.validation import Validation, grounded_samples
from gtg_bench.training.loop import checkpoints
from gtg_bench.training.loop.progress import SEEN, console, seen
from gtg_bench.training.loop.signals import StopRequest
from gtg_bench.training.loop.trainer import Curve, Trainer, Watch
from gtg_bench.training.recipe import LdmRecipe, SeparationRecipe
from gtg_bench.training.variants import Variant, variant_of

OTHER_NOTICE = (
    "Trained by gtg-bench's users on the data that this card names. Not a published model, no diagnostic tool."
)
BEST = "best"
WORK = "work"


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for.

    Attributes:
        variant: name, see `variants`.
        recipe: see `recipe`.
        out: folder of the result; checkpoints and cache are in its `work`.
        seed: None takes the recipe's first.
        rank: of the low-rank adapter; None takes the variant's.
        data: training set; None takes the recipe's.
        opened: split -> a training set, instead of a registered name in `data`.
        data_root: its folder, where it needs one.
        data_options: its options, besides the recipe's.
        split: which pairs.
        start: weights to start from, as `--weights` takes them; None: as the recipe says.
        validate_root, validate_options: folder and options of the data set whose phrases are grounded.
        parts: where the phantom's parts lie; None: the packaged ones.
        shared: a folder whose parts the result may refer to; None: the result holds everything that is on no hub.
        cache: folder of encoded images and texts; None: in `work`.
        max_steps: train no longer than this.
        resume: go on from the last checkpoint.
        device: "auto", "cpu" ...
        precision: None takes the recipe's.
        workers: processes that load samples.
        trackers: Accelerate's names.
    """

    variant: str
    recipe: LdmRecipe
    out: Path
    seed: int | None = None
    rank: int | None = None
    data: str | None = None
    opened: Callable[[str], TrainingSet] | None = None
    data_root: Path | None = None
    data_options: Mapping[str, str] = field(default_factory=dict)
    split: str = "train"
    start: str | None = None
    validate_root: Path | None = None
    validate_options: Mapping[str, str] = field(default_factory=dict)
    parts: Path | None = None
    shared: Path | None = None
    cache: Path | None = None
    max_steps: int | None = None
    resume: bool = True
    device: str = "auto"
    precision: str | None = None
    workers: int = 0
    trackers: tuple[str, ...] = ()


def train(request: TrainRequest, stop: StopRequest | None = None) -> Path:
    """Train; return the folder of the result. Run by every process of `accelerate launch`.

    Raises:
        UsageError, DataError: an option is wrong or a file is missing; raised before anything is computed.
        Stopped: a stop was requested; the same call resumes.
        GtgError: training diverged.
    """
    return _Training(request, stop or StopRequest()).run()


class _Training:
    """One call of `train`; everything is opened when it is first needed, in the order in which `run` asks."""

    def __init__(self, request: TrainRequest, stop: StopRequest) -> None:
        self.request, self.stop = request, stop
        recipe = request.recipe
        self.recipe = recipe if request.max_steps is None else recipe.at_most(request.max_steps)
        self.variant: Variant = variant_of(request.variant).of_rank(request.rank)
        self.seed = recipe.seeds[0] if request.seed is None else request.seed
        self.out = request.out.resolve()
        self.work = self.out / WORK

    def run(self) -> Path:
        try:
            return self._run()
        finally:
            if self.accelerator.log_with or self.accelerator.num_processes > 1:
                self.accelerator.end_training()

    def _run(self) -> Path:
        for schedule in self.recipe.schedules:
            schedule.split(self.accelerator.num_processes)
        total = sum(schedule.samples for schedule in self.recipe.schedules)
        self._say(f"{self.request.variant}: {len(self.pairs)} pairs of {self.pairs.name}, {total} samples to see")
        self._check(total)
        if not self.request.resume and self.accelerator.is_main_process:
            self._forget()
        self.accelerator.wait_for_everyone()
        positions = range(self.recipe.schedule.samples)
        draws = self._draws(self.pairs, positions, self.seed, self.recipe.caption_dropout)
        part = Trainer(
            name=self.request.variant,
            objective=self.objective,
            draws=draws,
            schedule=self.recipe.schedule,
            seed=self.seed,
            work=self.work,
            about=self.about,
            ema=self.recipe.ema,
            accelerator=self.accelerator,
            watch=Watch(self.recipe.validation.every, self._look),
            workers=self.request.workers,
            resume=self.request.resume,
            stop=self.stop,
            explain=lambda positions: self._describe(draws, positions),
        )
        curve, steps = part.run(), part.schedule.steps
        for number, recipe in enumerate(self.recipe.separation, 1):
            part = self._round(part, number, steps, recipe)
            curve = curve + [(steps + step, loss) for step, loss in part.run()]
            steps += part.schedule.steps
        if self.accelerator.is_main_process:
            self.exporter.write(self.out, self._facts(steps, curve, draws))
        self.accelerator.wait_for_everyone()
        return self.request.out

    def _round(self, before: Trainer, number: int, steps: int, recipe: SeparationRecipe) -> Trainer:
        """A round of the second part, see `separation`; to be called when the part before is finished."""
        work = part_folder(self.work, number)
        seed = seed_for(self.seed, work.name)  # other noise in every part
        positions, dropout = range(recipe.schedule.samples), self.recipe.caption_dropout
        plain = draws = self._draws(self.pairs, positions, seed, dropout)
        if recipe.changed_images:
            draws = self._draws(ChangedImages(self.pairs, recipe.changed_images), positions, seed, dropout)
        known = hashlib.sha256(before.identity.encode()).hexdigest()
        about = {"before": known, "separation": recipe.model_dump(exclude={"schedule"})}
        self.accelerator.free_memory()  # else the part before would be in this one's checkpoints
        names = trained_names(self._trained, recipe.trained)
        for name, parameter in self.models.unet.named_parameters():
            parameter.requires_grad_(name in names)
        return replace(
            before,
            name=f"{self.request.variant}-{work.name}",
            objective=SeparationObjective(self.objective, self.models.text_encoder.tokens([""]), recipe),
            draws=PairedDraws(draws, plain, self._captions, recipe.false_captions),
            schedule=recipe.schedule,
            work=work,
            about=self.about | about,
            watch=Watch(self.recipe.validation.every, lambda step: self._look(steps + step)),
            explain=lambda positions: self._describe(draws, positions),
        )

    @cached_property
    def _trained(self) -> set[str]:
        """The names of the U-Net's parameters that the variant trains."""
        return {name for name, parameter in self.models.unet.named_parameters() if parameter.requires_grad}

    @cached_property
    def _captions(self) -> Captions:
        captions = Captions.of(self.pairs, self.models.text_encoder)
        if not any(map(captions.other, range(len(self.pairs)))):
            self._say(f"no image of {self.pairs.name} has two captions: all second captions are false ones")
        return captions

    @cached_property
    def accelerator(self) -> Accelerator:
        cpu = self.request.device == "cpu" or not torch.cuda.is_available()
        launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # set by `accelerate launch`
        precision = self.request.precision or (launched if launched != "no" else self.recipe.precision)
        if cpu and precision != "no":
            console.print(f"precision {precision} needs a GPU: on this CPU everything is float32")
            precision = "no"
        trackers: Any = list(self.request.trackers) or None
        logs = str(self.work / "logs")
        try:
            made = Accelerator(cpu=cpu, mixed_precision=precision, log_with=trackers, project_dir=logs)
        except ValueError as error:
            raise UsageError(f"--tracker {', '.join(trackers or ())}: {error}") from error
        if lost := set(trackers or ()) - {str(getattr(tracker, "value", tracker)) for tracker in made.log_with}:
            raise UsageError(f"--tracker {', '.join(sorted(lost))}: its package is not installed; pip install it")
        return made

    @cached_property
    def weights(self) -> Weights:
        return locate_parts(self.request.variant, self.variant, self.recipe, self.request.start, self.request.parts)

    @cached_property
    def pairs(self) -> TrainingSet:
        return self._open(self.request.split)

    def _open(self, split: str) -> TrainingSet:
        r = self.request
        if r.opened is not None:
            return r.opened(split)
        name = r.data or self.recipe.data
        own = self.recipe.data_options if name == self.recipe.data else {}
        return open_training_set(name, r.data_root, {**own, **r.data_options}, split)

    @cached_property
    def models(self) -> TrainableLdm:
        models = load_models(self.weights, self.variant, self.recipe, self.seed)
        for model in (models.vae, models.text_encoder.module):
            model.to(self.accelerator.device)
        return replace(models, device=self.accelerator.device)

    @cached_property
    def objective(self) -> NoiseObjective:
        m, trains_text = self.models, "text_encoder" in self.variant.trains
        return NoiseObjective(
            m.unet, m.scheduler, m.text_encoder, trains_text, self.recipe.text_memory, self.recipe.min_snr
        )

    @cached_property
    def exporter(self) -> Exporter:
        dtype = getattr(torch, self.recipe.save_precision)
        return Exporter(self.models, self.weights, self.variant, dtype, self.request.shared)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What decides the result apart from schedule and seed."""
        recipe = self.recipe.model_dump(mode="json", include=_DECIDING)
        data = {"name": self.pairs.name, "split": self.pairs.split, "fingerprint": self.pairs.fingerprint}
        return {
            "variant": self.variant.model_dump(mode="json"),
            "recipe": recipe,
            "data": data,
            "start": self.weights.version,
            "precision": self.accelerator.mixed_precision,
        }

    @property
    def _seen(self) -> list[dict[str, Any]]:
        """The validations of all parts, with their steps counted together."""
        rows, before = list[dict[str, Any]](), 0
        for number, schedule in enumerate(self.recipe.schedules):
            found = seen(part_folder(self.work, number))
            rows += [row | {"step": before + row["step"]} for row in found]
            before += schedule.steps
        return rows

    def _forget(self) -> None:
        """Remove what an earlier run left, but for the first part's checkpoints, which the trainer removes."""
        rounds = list(takewhile(Path.exists, (part_folder(self.work, number) for number in count(1))))
        with ExitStack() as held:
            for part in (self.work, *rounds):
                held.enter_context(checkpoints.alone(part))  # never of a training that runs
            (self.work / SEEN).unlink(missing_ok=True)
            for folder in (*rounds, self.out / BEST):
                shutil.rmtree(folder, ignore_errors=True)

    def _check(self, total: int) -> None:
        """Refuse to start where a layer is missing, nothing could be grounded, or the disk is too small."""
        rounds, choice = self.recipe.separation, self.recipe.choice
        named = {f"separation.{number}": (part.layers, part.trained) for number, part in enumerate(rounds)}
        if choice is not None and choice.layers is not None:
            named["choice"] = choice.layers, ()
        for part, (layers, trained) in named.items():
            try:
                select_layers(self.models.unet, layers)
                trained_names(self._trained, trained)
            except UsageError as error:
                said = str(error).removeprefix("--")
                raise UsageError(f"{part}.{said}; change it in the recipe") from error
        if self._grounded is not None:
            try:
                grounded_samples(self._grounded, self.recipe.validation)
            except GtgError as error:
                raise UsageError(
                    f"{error}; change `validation` in the recipe, by --config; `dataset: null` is none"
                ) from error
        if self.recipe.validation.pairs:
            len(self._validation_pairs)
        longer = part_folder(self.work, len(self.recipe.schedules))
        if self.request.resume and longer.exists():
            raise UsageError(f"{longer} is of a longer training; choose another --out, or --resume never to begin anew")
        written = self._encoded_bytes(total)
        if self.request.cache is not None:
            checkpoints.check_space(self.request.cache, written, "encoded images and texts")
            written = 0
        for schedule in self.recipe.schedules:
            average = self.recipe.ema is not None
            written += checkpoints.bytes_needed(self.objective, average, schedule.keep_checkpoints)
        written += 2 * sum(p.numel() * 4 for p in self.models.unet.parameters())  # the best state and the result
        checkpoints.check_space(self.work, written, "checkpoints, the trained model, encoded images and texts")

    def _encoded_bytes(self, total: int) -> int:
        """Size of the encoded images and texts that so many samples need."""
        config, vae = self.models.unet.config, self.models.vae.config
        row = vae.latent_channels * int(config.sample_size) ** 2 * 2 * 2
        return min(total, len(self.pairs)) * (row + self.models.text_encoder.max_length * 5)

    @cached_property
    def encoder(self) -> Encoder:
        place = self.request.cache or self.work / "cache"
        return Encoder(self.models, self.weights, place, self.accelerator, self.stop)

    def _draws(self, pairs: TrainingSet, positions: range, seed: int, dropout: float) -> LatentDraws:
        latents, texts, item = self.encoder.encode(pairs, positions, seed)
        tokens = self.models.text_encoder.tokens([""])
        empty = {"ids": tokens.ids[0], "mask": tokens.mask[0]}
        return LatentDraws(latents, texts, empty, item, dropout, seed, self.recipe.timesteps)

    @cached_property
    def _look(self) -> Validation:
        known = [row["cnr"] for row in self._seen if "cnr" in row]
        return Validation(
            models=self.models,
            objective=self.objective,
            recipe=self.recipe.validation,
            draws=self._held_out(),
            dataset=self._grounded,
            pictures=self.work / "pictures",
            best=self._keep_best,
            show=self._show,
            highest=max(known, default=-float("inf")),
        )

    def _held_out(self) -> LatentDraws | None:
        count = self.recipe.validation.pairs
        return self._draws(self._validation_pairs, range(count), seed=0, dropout=0.0) if count else None

    @cached_property
    def _validation_pairs(self) -> TrainingSet:
        try:
            found = self._open("validate")
            if len(found):
                return found
        except (UsageError, DataError):
            pass
        self._say(f"{self.pairs.name} has no validation split here: the loss on fixed noise is of training pairs")
        return self.pairs

    @cached_property
    def _grounded(self) -> Dataset | None:
        name = self.recipe.validation.dataset
        if name is None:
            return None
        return open_dataset(name, self.request.validate_root, dict(self.request.validate_options))

    def _keep_best(self, step: int, numbers: Mapping[str, float]) -> None:
        self.exporter.write(self.out / BEST, self._facts(step, [], None) | {"validated": dict(numbers)})

    def _show(self, step: int, path: Path) -> None:
        """Hand a sheet of pictures to TensorBoard."""
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                sheet = np.asarray(Image.open(path).convert("RGB"))[None]
                tracker.log_images({"pictures": sheet}, step, dataformats="NHWC")

    def _facts(self, steps: int, curve: Curve, draws: LatentDraws | None) -> dict[str, Any]:
        recipe, phantom = self.recipe, self.pairs.name == "phantom"
        facts: dict[str, Any] = {
            "notice": NOTICE if phantom else OTHER_NOTICE,
            "title": f"{self.request.variant}, trained on {self.pairs.name}",
            "variant": self.request.variant,
            "data": {
                "dataset": self.pairs.name,
                "options": dict(self.pairs.options),
                "split": self.pairs.split,
                "pairs": len(self.pairs),
                "unusable": 0 if draws is None else len(draws.item.unusable),
                "fingerprint": self.pairs.fingerprint,
            },
            "recipe_name": recipe.name,
            "recipe": json.loads(recipe.model_dump_json()),
            "seed": self.seed,
            "steps": steps,
            "started_from": {"weights": self.request.start or recipe.weights, "version": self.weights.version},
            "processes": self.accelerator.num_processes,
            "precision": str(self.accelerator.mixed_precision),
            "git_revision": git_revision(),
            "loss_curve": curve,
            "validation_curve": self._seen,
        }
        facts |= {"rank": self.variant.rank} if self.variant.rank else {}
        return facts | ({"defaults": recipe.defaults} if recipe.defaults else {})

    def _describe(self, draws: LatentDraws, positions: Sequence[int]) -> str:
        """The first images of some positions, and how many there are."""
        names = [self.pairs[draws.item(position)].image_id for position in positions[:_TOLD]]
        return f"images {', '.join(names)}" + (f" ... ({len(positions)})" if len(positions) > _TOLD else "")

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            console.say(text)


_TOLD = 5
"""Images that a diagnosis names."""

_DECIDING = {"caption_dropout", "min_snr", "timesteps", "unet", "unet_config", "weights"}
"""Fields of a recipe that decide the result, apart from schedule and moving average."""
