"""What the verbs say besides their results: the command that comes next, images left out, lines for the eye alone."""

import shlex
import sys
from typing import Any


def say(line: str) -> None:
    """Tell the person, beside the output that a program may read."""
    print(line, file=sys.stderr, flush=True)


def say_next(*words: object) -> None:
    """Print the command that comes next, ready to be pasted."""
    print(f"\nNext: {shlex.join(str(word) for word in words)}")


def say_unreadable(frame: Any, most: int = 5) -> None:
    """Name the images that could not be read, with the reason."""
    if frame.height:
        are = "image cannot be read and is" if frame.height == 1 else "images cannot be read and are"
        say(f"{frame.height:,} {are} left out:")
        for row in frame.head(most).iter_rows(named=True):
            say(f"  {row['path']}: {row['reason']}")
        if frame.height > most:
            say(f"  ... and {frame.height - most:,} more")


def recipe_for(table: Any) -> list[str]:
    """The recipe made for a table like this one, else the word RECIPE and, printed, where to choose it."""
    from hilum.findings import finding_set
    from hilum.tables import finding_names

    if set(finding_names(table)) == set(finding_set("nih")):
        return ["nih_quick"]
    if set(table["source"]) == {"phantom"}:
        return ["demo", "findings=null"]
    print("Choose a RECIPE from the list that `hilum recipes` prints, or write your own.")
    return ["RECIPE"]
