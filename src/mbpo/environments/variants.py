"""Named sets of options under which Gymnasium's tasks are those of a paper."""

from __future__ import annotations

from typing import Any

from mbpo.errors import InputError, did_you_mean

VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    # 27 observations, AntTruncatedObs of Janner et al. 2019; Ant-v4 has these by default
    "Ant-v5": {"truncated": {"include_cfrc_ext_in_observation": False}},
    # 45 observations, HumanoidTruncatedObs of Janner et al. 2019
    "Humanoid-v5": {
        "truncated": {
            "include_cinert_in_observation": False,
            "include_cvel_in_observation": False,
            "include_qfrc_actuator_in_observation": False,
            "include_cfrc_ext_in_observation": False,
        }
    },
    # the body of v2 to v4: v5's own file gives one foot the friction 1.9 instead of 0.9
    "Walker2d-v5": {"walker2d.xml": {"xml_file": "walker2d.xml"}},
}


def variant_options(environment_id: str, name: str) -> dict[str, Any]:
    """The options of the variant `name` of an environment; raises `InputError` with the nearest name."""
    if environment_id not in VARIANTS:
        raise InputError(
            f"{environment_id} has no named variants, {did_you_mean(environment_id, VARIANTS)} (options can be given "
            "one by one)"
        )
    variants = VARIANTS[environment_id]
    if name not in variants:
        raise InputError(f"{environment_id} has no variant {name!r}, {did_you_mean(str(name), variants)}")
    return dict(variants[name])
