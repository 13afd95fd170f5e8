"""Recipes: everything that decides a training run, as validated data."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from gtg_bench.benchmark.api.errors import UsageError
from gtg_bench.benchmark.state import Strict, problem, read_yaml, shown
from gtg_bench.methods.weights.plan import Part

RECIPES = Path(__file__).parent / "recipes"
_BASED_ON = "based_on"


_FREE = {"log_every", "checkpoint_every", "keep_checkpoints", "device_batch"}
"""Fields of a schedule that do not change what is learned."""

Model = TypeVar("Model", bound=Strict)


class Schedule(Strict):
    """Optimisation: by default AdamW, with a linear warm-up and a cosine decay (paper, 3.1)."""

    steps: int = Field(gt=0, description="optimiser steps")
    batch_size: int = Field(gt=0, description="samples an optimiser step, over all devices and accumulated batches")
    device_batch: int | None = Field(
        None, gt=0, description="most samples that a device takes at once; None: its whole share of the batch"
    )
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="muon: AdamW for what is not a hidden matrix")
    learning_rate: float = Field(gt=0, description="base learning rate")
    warmup_steps: int = Field(100, ge=0, description="steps of linear warm-up")
    betas: tuple[float, float] = Field((0.9, 0.999), description="AdamW's decay rates")
    epsilon: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's decoupled weight decay")
    max_grad_norm: float = Field(1.0, gt=0, description="gradients are clipped to this norm")
    log_every: int = Field(50, gt=0, description="steps between two points of the loss curve")
    checkpoint_every: int = Field(250, gt=0, description="steps between two checkpoints")
    keep_checkpoints: int = Field(2, gt=0, description="how many of the last checkpoints are kept")

    @property
    def samples(self) -> int:
        """How many samples are seen."""
        return self.steps * self.batch_size

    def deciding(self) -> dict[str, Any]:
        """The fields that decide what is learned, as JSON values."""
        return self.model_dump(mode="json", exclude=_FREE)

    def split(self, processes: int) -> tuple[int, int]:
        """(samples that a device takes at once, batches that are accumulated) with so many processes.

        Raises:
            UsageError: the batch cannot be shared out evenly.
        """
        share, rest = divmod(self.batch_size, processes)
        if rest or not share:
            raise UsageError(f"batch_size {self.batch_size} cannot be shared by {processes} processes; change either")
        if self.device_batch is None or self.device_batch >= share:
            return share, 1
        if share % self.device_batch:
            raise UsageError(
                f"a share of {share} samples (batch_size {self.batch_size}, {processes} processes) is not a multiple "
                f"of device_batch {self.device_batch}; change one of them"
            )
        return self.device_batch, share // self.device_batch


class EmaRecipe(Strict):
    """Moving average of what is trained; it is what is evaluated and saved (paper, 3.1)."""

    decay: float = Field(0.9999, ge=0, lt=1, description="largest decay")
    power: float = Field(0.75, gt=0, description="at step n the decay is at most 1 - (1 + n) ** -power")


class ValidationRecipe(Strict):
    """What is measured while a model is trained; the checkpoint with the highest CNR is kept as `best`."""

    every: int = Field(500, gt=0, description="steps between two validations")
    pairs: int = Field(64, ge=0, description="training-set pairs of the validation split for the loss on fixed noise")
    dataset: str | None = Field(None, description="data set whose phrases are grounded; None: none are")
    split: str = Field("validate", description="split of that data set")
    samples: int = Field(48, gt=0, description="phrases that are grounded")
    steps: int = Field(5, gt=0, description="DDIM steps of grounding, in mode gt-cfg")
    pictures: int = Field(4, ge=0, description="overlays and generated images on a sheet; 0: no sheet")


class SeparationRecipe(Strict):
    """A round of the second part of a training, in which the maps of different captions learn to differ.

    See `ldm.separation`. Every round has the U-Net as the round before left it for its teacher.
    """

    schedule: Schedule = Field(description="a sample has two captions and is seen by two U-Nets: twice the memory")
    weight: float = Field(gt=0, description="of the maps' divergence from their goals; the noise's error has weight 1")
    sharpness: float = Field(
        gt=0, description="two captions share a place in proportion to their attention to the power of this"
    )
    layers: str = Field(
        "all", description="the cross-attention layers whose maps are shared out and trained, as by `--layers`"
    )
    smooth: float = Field(
        0.0,
        ge=0,
        le=0.5,
        description="standard deviation of a Gaussian over the teacher's maps, as a fraction of their shorter side",
    )
    false_captions: float = Field(
        ge=0, le=1, description="share of samples whose second caption is not of the image, where it has another one"
    )
    share_with_false: bool = Field(
        False,
        description="false captions take their share of places too, and their own maps are to be flat, without a hole; "
        "for a teacher that separates captions",
    )
    changed_images: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the images that the U-Net sees in another exposure, texture and sharpness, and its "
        "teacher as they are",
    )
    trained: tuple[str, ...] = Field(
        (),
        description="of the U-Net only parameters with one of these in their name are trained, such as attn2, its "
        "cross-attention; none: all that the variant trains",
    )


class ChoiceRecipe(Strict):
    """What is chosen on the validation split when training is done, and where the result is tested."""

    layer_steps: tuple[int, int] = Field(
        (10, 10), description="DDIM steps while the layers are chosen, and how many of the last ones are averaged"
    )
    layers: str | None = Field(None, description="layers that are not chosen but known, as by `--layers`")
    steps: tuple[tuple[int, int], ...] = Field(description="pairs of such numbers to try, with those layers")
    smooth: float = Field(0.0, ge=0, le=0.5, description="how far maps are smoothed for the choice, as by `--smooth`")
    tolerance: float = Field(0.01, ge=0, description="a mean CNR this near the best is as good: fewer steps win")
    guidance: float = Field(16.0, ge=0, description="the card's guidance scale; it changes nothing in GT mode")
    test_worlds: tuple[int, ...] = Field((0, 1), description="phantom worlds whose test splits are scored")


class LdmRecipe(Strict):
    """Training recipe of a latent diffusion model (paper, 3.1); the variant says which model."""

    name: str
    note: str = Field("", description="what it is for")
    weights: Literal["paper", "phantom"] = Field(
        description="where autoencoder and text encoder come from: published, or the phantom's"
    )
    unet: Part | None = Field(None, description="the U-Net that training starts from")
    unet_config: dict[str, Any] | None = Field(
        None,
        description="or, from scratch: arguments of diffusers.UNet2DConditionModel; cross_attention_dim is set to the "
        "width of the text encoder",
    )
    data: str = Field(description="training set, see `gtg-bench train --help`")
    data_options: dict[str, str] = Field(
        {}, description="its options, as text; --data-option adds to them, and --data leaves them out"
    )
    schedule: Schedule
    seeds: tuple[int, ...] = Field(min_length=1, description="the first is used where --seed names none")
    precision: Literal["no", "fp16", "bf16"] = Field("no", description="mixed precision; on a CPU there is none")
    caption_dropout: float = Field(0.3, ge=0, le=1, description="share of captions replaced by the empty one")
    words_only: bool = Field(
        False,
        description="start, end and padding tokens have the states of the empty caption; --start decides itself",
    )
    timesteps: tuple[float, float] | None = Field(
        None,
        description="mean and deviation of the logit of the noise level t / 1000 (Esser et al. 2024, Eq. 19); None: "
        "every t is as likely",
    )
    min_snr: float | None = Field(None, gt=0, description="gamma of min-SNR loss weighting; None: no weighting")
    separation: tuple[SeparationRecipe, ...] = Field((), description="rounds; none: no second part")
    gradient_checkpointing: bool = Field(False, description="recompute activations: less memory, more time")
    ema: EmaRecipe | None = EmaRecipe()
    save_precision: Literal["float32", "float16"] = Field("float32", description="of the saved U-Net")
    text_memory: int = Field(
        512, ge=0, description="MiB of a frozen text encoder's states that are kept; 0: texts are encoded every time"
    )
    validation: ValidationRecipe = ValidationRecipe()
    choice: ChoiceRecipe | None = Field(None, description="None: steps, guidance and layers stay the defaults")
    defaults: dict[str, Any] = Field({}, description="steps, guidance and layers of the card where nothing is chosen")

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.unet is None) == (self.unet_config is None):
            raise ValueError("name either unet (where training starts) or unet_config (from scratch)")
        if self.separation and self.gradient_checkpointing:
            raise ValueError("separation needs the attention maps, which gradient_checkpointing does not keep")
        return self

    @property
    def schedules(self) -> list[Schedule]:
        """Those of the first part and of each round of the second."""
        return [self.schedule, *(part.schedule for part in self.separation)]

    def at_most(self, steps: int) -> Self:
        """The recipe with so many steps in all: the last rounds are shortened or left out first."""
        schedules = list[Schedule]()
        for schedule in self.schedules:
            if taken := min(steps, schedule.steps):
                schedules.append(schedule.model_copy(update={"steps": taken}))
            steps -= taken
        first, *others = schedules
        rounds = zip(self.separation, others, strict=False)
        separation = tuple(part.model_copy(update={"schedule": schedule}) for part, schedule in rounds)
        return self.model_copy(update={"schedule": first, "separation": separation})


def load_recipe(name: str, changes: Path | None = None) -> LdmRecipe:
    """A recipe of the packaged ones, or of a YAML file, with the changes that a second YAML file makes.

    Raises:
        UsageError: there is none, or a field is wrong; names file and field.
        DataError: a file cannot be read.
    """
    values, source = read_recipe(name), recipe_path(name)
    if changes is not None:
        values, source = merged(values, read_yaml(changes)), changes
    return validated(LdmRecipe, values, source)


def recipe_path(name: str) -> Path:
    """The file of a recipe's name, or of the path of a YAML file. Raises UsageError if there is none."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = RECIPES / f"{name}.yaml"
    try:
        found = path.is_file()
    except OSError:  # such as a name that is too long
        found = False
    if not found:
        known = ", ".join(sorted(p.stem for p in RECIPES.glob("*.yaml")))
        raise UsageError(f"no recipe {shown(name)}; packaged: {known}; or name a YAML file")
    return path


def read_recipe(name: str, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of a recipe, those of the recipe that it is `based_on` included; `above` are those based on it.

    Raises:
        UsageError: there is none, or it is based on itself.
        DataError: a file cannot be read.
    """
    path = recipe_path(name)
    if path in above:
        raise UsageError(f"{path} is based on itself; change {_BASED_ON} in {above[-1]}")
    values = read_yaml(path)
    base = values.pop(_BASED_ON, None)
    return values if base is None else merged(read_recipe(str(base), (*above, path)), values)


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` put over it, mapping by mapping.

    A unet takes the place of a unet_config, and another training set has none of the options of the one before.
    """
    other = {"unet": "unet_config", "unet_config": "unet"}
    found = {name: value for name, value in base.items() if other.get(name) not in changes}
    if changes.get("data", base.get("data")) != base.get("data"):
        found.pop("data_options", None)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = merged(found[name], value) if both else value
    return found


def validated(model: type[Model], values: dict[str, Any], source: Path) -> Model:
    """The values as a model. Raises UsageError that names the file and the field."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{source}: {problem(error)}") from error
