"""Files of scores as an earlier version of this code wrote them."""

from typing import Any


def as_version_1(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of scores.json as version 1 wrote it: without units, two presets in percent."""
    scale = 100 if entry["preset"] in {"st-evidence", "st-evidence-mcq"} else 1

    def means(table: dict[str, Any]) -> dict[str, Any]:
        return {
            title: {
                key: scale * value if key in {"mean", "low", "high"} and value is not None else value
                for key, value in mean.items()
                if key != "unit"
            }
            for title, mean in table.items()
        }

    groups = {axis: {value: means(table) for value, table in rows.items()} for axis, rows in entry["groups"].items()}
    samples = {
        name: {
            "video_id": row["video_id"],
            "status": row["status"],
            "values": {title: None if value is None else scale * value for title, value in row["values"].items()},
        }
        for name, row in entry["samples"].items()
    }
    old = {key: value for key, value in entry.items() if key not in {"unit", "left_out", "partial"}}
    derived = {title: number["value"] for title, number in entry["derived"].items()}
    return old | {
        "version": 1,
        "metrics": means(entry["metrics"]),
        "derived": derived,
        "groups": groups,
        "samples": samples,
    }
