"""Writes the golden texts again."""

from tests.golden import FOLDER, texts

for name, text in texts():
    (FOLDER / name).write_text(text, encoding="utf-8")
    print(name)
