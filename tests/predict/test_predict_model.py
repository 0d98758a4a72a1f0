"""The time model on made-up work whose truth is known: what it must find, refuse and admit."""

from __future__ import annotations

import numpy as np
import pytest

from visionbench.predicting.fit import fit, fit_anchors, prior, priors
from visionbench.predicting.held_out import (
    baseline_predictions,
    coverage,
    error_figures,
    held_out_predictions,
    interval,
    resolution,
)
from visionbench.predicting.samples import Sample, column_names, design_matrix, measured_seconds

COLUMNS = ("conv", "elementwise", "launches", "linear")
TRUTH = np.array([1.4, 1.1, 0.5, 1.8])


def steps_with_noise(
    rows: int, *, families: int = 10, noise: float = 0.05, family_noise: float = 0.05, seed: int = 0
) -> list[Sample]:
    """Steps of TRUTH's multipliers, off by chance per row and per family."""
    random = np.random.default_rng(seed)
    of_family = random.normal(0, family_noise, families)
    samples = []
    for row in range(rows):
        work = random.lognormal(-6, 1, len(COLUMNS))
        family = row % families
        measured = float(work @ TRUTH * np.exp(of_family[family] + random.normal(0, noise)))
        samples.append(
            Sample(
                model=f"m{row}",
                family=f"f{family}",
                image_size=224,
                batch_size=64,
                seconds=measured,
                columns=dict(zip(COLUMNS, map(float, work), strict=True)),
                macs=int(work[0] * 1e12),
                activations=int(work[1] * 1e9),
            )
        )
    return samples


def test_multipliers_are_found_from_exact_rows():
    samples = steps_with_noise(200, noise=0.0, family_noise=0.0)
    multipliers = fit(design_matrix(samples, COLUMNS), measured_seconds(samples), np.full(4, 1.2))
    assert multipliers == pytest.approx(TRUTH, rel=0.02)


def test_one_row_in_twenty_off_by_factors_hardly_moves_them():
    samples = steps_with_noise(200, noise=0.02, family_noise=0.0)
    measured = measured_seconds(samples)
    measured[::20] *= 5
    multipliers = fit(design_matrix(samples, COLUMNS), measured, np.full(4, 1.2))
    assert multipliers == pytest.approx(TRUTH, rel=0.12)
    plain, *_ = np.linalg.lstsq(design_matrix(samples, COLUMNS) / measured[:, None], np.ones(200), rcond=None)
    assert np.abs(plain / TRUTH - 1).max() > np.abs(multipliers / TRUTH - 1).max()


def test_a_column_that_no_row_has_keeps_its_prior():
    samples = steps_with_noise(100)
    design = np.hstack([design_matrix(samples, COLUMNS), np.zeros((100, 1))])
    multipliers = fit(design, measured_seconds(samples), np.array([1.2, 1.2, 1.2, 1.2, 7.0]))
    assert multipliers[-1] == pytest.approx(7.0)


def test_no_multiplier_is_negative():
    samples = steps_with_noise(40, noise=0.5)
    assert (fit(design_matrix(samples, COLUMNS), measured_seconds(samples), np.full(4, 0.3)) >= 0).all()


def test_rows_without_time_or_work_are_refused():
    with pytest.raises(ValueError, match="without work"):
        fit(np.ones((2, 1)), np.array([1.0, 0.0]), np.ones(1))
    with pytest.raises(ValueError, match="without work"):
        fit(np.zeros((2, 1)), np.array([1.0, 1.0]), np.ones(1))


def test_a_dozen_anchors_mend_another_cards_multipliers():
    samples = steps_with_noise(300, noise=0.02, family_noise=0.0)
    elsewhere = TRUTH * np.array([0.6, 0.6, 0.6, 0.7])  # all cards' common factor, and one kernel of its own
    anchors = samples[:12]
    multipliers = fit_anchors(design_matrix(anchors, COLUMNS), measured_seconds(anchors), elsewhere)
    design, measured = design_matrix(samples[12:], COLUMNS), measured_seconds(samples[12:])
    assert np.abs(design @ multipliers / measured - 1).mean() < 0.05
    assert np.abs(design @ elsewhere / measured - 1).mean() > 0.3


def test_held_out_families_are_not_in_the_fit():
    """A family of its own kind of kernel cannot be known without it: its error shows that it was left out."""
    samples = steps_with_noise(60, noise=0.01, family_noise=0.0)
    odd = [
        Sample(
            model="odd",
            family="odd",
            image_size=224,
            batch_size=64,
            seconds=0.05,
            columns={"linear": 1e-3, "strange": 1e-2},
            macs=10,
            activations=10,
        )
        for _ in range(5)
    ]
    everything = [*samples, *odd]
    columns = column_names(everything)
    prior_ = np.full(len(columns), 1.2)
    predicted = held_out_predictions(everything, columns, prior_)
    assert predicted[-1] == pytest.approx(1.2e-2 + 1.8e-3, rel=0.05)
    assert (
        design_matrix(odd, columns)[0] @ fit(design_matrix(everything, columns), measured_seconds(everything), prior_)
        > 0.03
    )


def test_the_interval_covers_four_fifths_of_new_families():
    samples = steps_with_noise(600, families=60)
    predicted = held_out_predictions(samples, COLUMNS, np.full(4, 1.2))
    low, high = interval(samples, predicted)
    assert low < 0 < high
    new = steps_with_noise(600, families=60, seed=7)
    fresh = design_matrix(new, COLUMNS) @ fit(
        design_matrix(samples, COLUMNS), measured_seconds(samples), np.full(4, 1.2)
    )
    error = np.log(measured_seconds(new) / fresh)
    assert 0.75 <= np.mean((error >= low) & (error <= high)) <= 0.86


def test_few_unlike_families_get_a_wider_interval_than_their_own_quantiles():
    samples = steps_with_noise(60, families=4, noise=0.01, family_noise=0.2, seed=3)
    predicted = held_out_predictions(samples, COLUMNS, np.full(4, 1.2))
    residual = np.log(measured_seconds(samples) / predicted)
    low, high = interval(samples, predicted)
    assert high - low > np.quantile(residual, 0.9) - np.quantile(residual, 0.1)
    assert coverage(samples, predicted, 0.98) >= coverage(samples, predicted, 0.80)


def test_figures_are_what_they_say():
    samples = steps_with_noise(50)
    measured = measured_seconds(samples)
    errors = error_figures(samples, measured * 1.1, covered=False)
    assert (errors.mean, errors.median, errors.p90) == pytest.approx((0.1, 0.1, 0.1))
    assert errors.rank == pytest.approx(1.0)
    assert (errors.rows, errors.families, errors.coverage) == (50, 10, None)


def test_the_model_beats_counting_flops_or_activations():
    samples = steps_with_noise(200)
    model = error_figures(samples, held_out_predictions(samples, COLUMNS, np.full(4, 1.2)), covered=True)
    for work in (lambda s: s.macs, lambda s: s.activations):
        assert error_figures(samples, baseline_predictions(samples, work), covered=False).mean > 3 * model.mean
    assert 0.75 <= model.coverage <= 0.85


def test_resolution_grows_with_the_error():
    coarse, fine = (steps_with_noise(200, noise=n, family_noise=n) for n in (0.2, 0.02))
    wide, narrow = (resolution(s, held_out_predictions(s, COLUMNS, np.full(4, 1.2))) for s in (coarse, fine))
    assert wide > 4 * narrow


def test_one_family_alone_cannot_be_held_out():
    with pytest.raises(ValueError, match="one family"):
        held_out_predictions(steps_with_noise(20, families=1), COLUMNS, np.full(4, 1.2))


def test_priors_depend_on_the_regime():
    assert prior("elementwise", precision="amp_fp16", compiled=True) < prior(
        "elementwise", precision="amp_fp16", compiled=False
    )
    assert prior("depthwise.taps.last", precision="fp32", compiled=False) > 1  # no kernel takes less than its FLOPs
    assert prior("linear.tile", precision="tf32", compiled=False) == 0.3
    assert priors(("linear.flops", "never seen"), precision="bf16", compiled=False).tolist() == [1.2, 1.2]
