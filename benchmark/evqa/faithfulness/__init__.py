"""Faithfulness: whether an answer depends on the evidence that is cited for it.

The questions of a run are asked again about edited videos: with the cited evidence alone, without it, without random
evidence of equal size, without a video, and with the options in another order. `docs/faithfulness.md` has the formulas.

- `evidence`: cited evidence as frames and pixels. `placements`: random evidence of equal size.
- `video_edits`: edit lists of the conditions. `conditions`: their data sets. `condition_runs`: their runs.
- `measures`: sufficiency, necessity and the other measures, with intervals. `results`: the record of a result.
"""
