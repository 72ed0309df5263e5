"""Draws docs/images/demo.svg from a real run in a real terminal: `python docs/images/record.py`.

Needs tmux. The upper part is the screen when more than half of the trials have ended, the lower
part is what the run leaves behind.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[2]
PICTURE = Path(__file__).with_name("demo.svg")
COMMAND = "sweepd run shared/sweepd/examples/digits/objective.yaml"
WIDTH, HEIGHT = 124, 60
TIMEOUT_S = 300.0


class Terminal:
    """A program in a terminal of its own; ended with it."""

    def __init__(self, command: str) -> None:
        self._tmux = ["tmux", "-L", "sweepd-picture", "-f", "/dev/null"]
        size = ["-x", str(WIDTH), "-y", str(HEIGHT)]
        # tmux ends with its program: `cat` keeps the last screen.
        path = f"PATH='{Path(sys.executable).parent}':$PATH"
        program = f"cd '{ROOT}' && env TERM=xterm-256color {path} {command}; cat"
        subprocess.run([*self._tmux, "new-session", "-d", *size, program], check=True)

    def screen(self) -> str:
        """Return what is on the screen, with its colours as escape sequences."""
        capture = [*self._tmux, "capture-pane", "-p", "-e"]
        return subprocess.run(capture, check=True, capture_output=True, text=True).stdout.rstrip()

    def when(self, condition: Callable[[str], bool]) -> Text:
        """Return the screen as soon as *condition* holds for its plain text."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition((text := Text.from_ansi(self.screen())).plain):
            if time.monotonic() > deadline:
                raise SystemExit(f"the screen never showed it; the last one:\n{text.plain}")
            time.sleep(0.1)
        return text

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-session"], check=True)


def in_full_swing(screen: str) -> bool:
    """More than half of the trials have ended, and one that runs has a curve to show."""
    found = re.search(r"(\d+)/(\d+) trials", screen)
    return found is not None and int(found[1]) > 0.5 * int(found[2]) and "▁" in screen


def main() -> None:
    terminal = Terminal(f"{COMMAND} --new")
    try:
        progress = terminal.when(in_full_swing)
        result = terminal.when(lambda screen: "every trial" in screen)
    finally:
        terminal.close()
    with Path("/dev/null").open("w") as nowhere:
        console = Console(
            record=True, width=WIDTH, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(Text(f"$ {COMMAND}\n", style="bold"))
        console.print(progress)
        console.print(Text("\n ...\n", style="dim"))
        console.print(
            Text("\n").join(line for line in result.split("\n") if "logs of sweepd" not in line.plain)
        )
        drawing = console.export_svg(title="sweepd")
    # The fonts would be fetched from elsewhere; every reader has a monospaced one.
    drawing = re.sub(r"@font-face \{.*?\}\s*", "", drawing, flags=re.DOTALL)
    PICTURE.write_text(drawing.replace("Fira Code, monospace", "ui-monospace, Menlo, Consolas, monospace"))


if __name__ == "__main__":
    main()
