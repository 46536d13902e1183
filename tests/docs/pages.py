"""The pages that a newcomer reads, as data: their blocks, the commands in these, and the edits they ask for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md"))))
PARTS = re.compile(r"^#+ (?P<title>[^\n]+)$|^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    page: str
    section: str
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Of a shell: a line each, without the comments that explain it."""
        lines = (re.sub(r"(^|\s+)#.*", "", line) for line in self.text.replace("\\\n", " ").splitlines())
        return [line for line in lines if line]

    @property
    def file(self) -> str:
        """Which one an edit is of (`--- PATH`), or makes (`# PATH`); empty where the block is none."""
        head = re.match({"diff": r"--- (\S+)\n", "python": r"# (\S+\.py)\n"}.get(self.language, "$^"), self.text)
        return head[1] if head else ""


def blocks(page: str, language: str = "") -> list[Block]:
    """Those of a page, in order; of one language where it is named."""
    found, section = [], ""
    for part in PARTS.finditer((ROOT / page).read_text()):
        section = part["title"] or section
        if part["title"] is None:
            found.append(Block(page, section, part["language"], part["text"]))
    return [block for block in found if language in ("", block.language)]


def prose(page: str) -> str:
    """A page without what stands between fences."""
    return PARTS.sub(lambda part: part[0] if part["title"] else "", (ROOT / page).read_text())


def edited(block: Block, before: str) -> str:
    """The file of an edit after it: a diff's old lines stand in the file once, and give way to its new ones.

    Raises ValueError where they do not.
    """
    lines = block.text.splitlines(keepends=True)[1:]
    if block.language == "python":
        return "".join(lines)
    old, new = ("".join(line[1:] for line in lines if line[0] in (" ", sign)) for sign in "-+")
    if before.count(old) != 1:
        raise ValueError(f"{block.file}: has {before.count(old)} times, and not once:\n{old}")
    return before.replace(old, new)


def edit(block: Block, root: Path) -> None:
    """Do an edit in the tree below a folder."""
    path = root / block.file
    path.write_text(edited(block, path.read_text() if path.exists() else ""))
