"""Files of a test of faithfulness: JSON, CSV tables and the page."""

from __future__ import annotations

from pathlib import Path

from evqa.faithfulness.condition_runs import FaithfulnessRun
from evqa.faithfulness.conditions import ConditionSet
from evqa.faithfulness.results import Faithfulness, write_result
from evqa.files.csv_files import write_csv
from evqa.files.jsonl import replace_file
from evqa.report import faithfulness_page, faithfulness_tables
from evqa.runs.run_folder import user_errors_of_disk

TABLE = "faithfulness.csv"
QUESTIONS = "questions.csv"


def write_files(
    folder: Path, result: Faithfulness, source: FaithfulnessRun, conditions: ConditionSet, *, num_examples: int
) -> list[Path]:
    """Write the files of a result into the folder of its conditions and return their paths.

    Arguments as for `faithfulness_page.write_page`.
    """
    with user_errors_of_disk(folder):
        paths = [write_result(folder, result), folder / TABLE, folder / QUESTIONS]
        with replace_file(folder / TABLE) as file:
            file.write(faithfulness_tables.csv_report(result).encode())
        titles, rows = faithfulness_tables.question_rows(result)
        write_csv(folder / QUESTIONS, titles, rows)
        page = faithfulness_page.write_page(folder, result, source, conditions, num_examples=num_examples)
        paths.append(page)
    return paths
