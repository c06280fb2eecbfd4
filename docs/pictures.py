"""Makes docs/live.png and docs/loss.svg from a real run. Run by hand, on Linux or macOS:

    python -m venv .venv && .venv/bin/pip install pyte pillow matplotlib
    .venv/bin/python docs/pictures.py target/debug/kindling

It trains the default recipe in a temporary folder, in a pseudo-terminal of a fixed size, and asks for a sample near the
end. live.png shows the terminal shortly before the last step; loss.svg is the chart that the run draws. Nothing else
should run on the machine meanwhile, because the picture shows the training speed.

The font is DejaVu Sans Mono: the system's, or the one that matplotlib bundles. `--font` names another. Box-drawing,
block and braille characters are drawn as shapes, so that lines have no gaps.
"""

import argparse
import copy
import fcntl
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

import pyte
from PIL import Image, ImageDraw, ImageFont

COLUMNS, ROWS = 110, 34
FONT_SIZE = 18
PADDING = 16

# Fractions of the run at which a sample is asked for and the screen is taken.
SAMPLE_AT, PICTURE_AT = 0.88, 0.95

# Quiet time after which the screen is a whole frame, in seconds. The view draws four frames a second.
QUIET = 0.1

BACKGROUND, FOREGROUND = "#1b1c22", "#d5d7de"
PALETTE = {
    "black": "#1b1c22", "red": "#e06c75", "green": "#98c379", "brown": "#e5c07b",
    "blue": "#61afef", "magenta": "#d68fe0", "cyan": "#56c8d8", "white": "#d5d7de",
}
# How far dim text is on the way from the background to its colour.
DIM = 0.65

# Arms of box-drawing characters: left, right, up, down.
BOX = {
    "─": "lr", "━": "lr", "│": "ud", "┃": "ud", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu",
    "├": "rud", "┤": "lud", "┬": "lrd", "┴": "lru", "┼": "lrud",
}
# Columns and rows of the eight dots of a braille character, by bit.
BRAILLE = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]


class Screen(pyte.Screen):
    """A screen that keeps dim text, which pyte does not know, as blinking text, which the view does not use."""

    def select_graphic_rendition(self, *attributes, private=False):
        translated, rest = [], list(attributes)
        while rest:
            attribute = rest.pop(0)
            if attribute in (38, 48):  # A colour: 5 and an index, or 2 and three components.
                n = {5: 2, 2: 4}.get(rest[0] if rest else None, 0)
                translated += [attribute, *rest[:n]]
                del rest[:n]
            else:
                translated += {2: [5], 22: [22, 25]}.get(attribute, [attribute])
        super().select_graphic_rendition(*translated)


def progress(screen):
    """The part of the run that is done, as the view shows it, or None."""
    found = re.search(r"^\s*([\d,]+)/([\d,]+)\s", screen.display[1])
    if not found:
        return None
    done, total = (int(number.replace(",", "")) for number in found.groups())
    return done / total


def train(kindling, folder):
    """Trains the default recipe and returns the screen shortly before the end."""
    main, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    environment.update(TERM="xterm-256color", LANG="C.UTF-8", COLUMNS=str(COLUMNS), LINES=str(ROWS))
    command = [kindling, "train"]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdin=child, stdout=child, stderr=child, start_new_session=True
    )
    os.close(child)

    screen = Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    taken, has_asked, written = None, False, time.monotonic()
    while True:
        ready, _, _ = select.select([main], [], [], QUIET)
        if ready:
            try:
                data = os.read(main, 1 << 16)
            except OSError:  # Linux reports the end of the process like this.
                data = b""
            if not data:
                break
            stream.feed(data)
            written = time.monotonic()
        if time.monotonic() - written < QUIET / 2:
            continue
        done = progress(screen)
        if done is None or done >= 1:
            continue
        if done >= SAMPLE_AT and not has_asked:
            os.write(main, b"w")
            has_asked = True
        if done >= PICTURE_AT and taken is None:
            taken = copy.deepcopy(screen)
    os.close(main)
    if process.wait() != 0:
        sys.exit("error: training failed; its last screen:\n" + "\n".join(screen.display))
    if taken is None:
        sys.exit("error: the run ended before the picture was taken; its last screen:\n" + "\n".join(screen.display))
    return taken


def find_font(bold):
    """DejaVu Sans Mono, of the system or of matplotlib."""
    name = "DejaVuSansMono-Bold.ttf" if bold else "DejaVuSansMono.ttf"
    system = Path("/usr/share/fonts/truetype/dejavu") / name
    if system.exists():
        return system
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts/ttf" / name


def rgb(colour, default):
    """The colour that pyte names: a word, six hexadecimal digits, or the default."""
    # Colours by index come as digits; the first eight are those of the palette.
    if colour in pyte.graphics.FG_BG_256[:8]:
        colour = list(PALETTE)[pyte.graphics.FG_BG_256.index(colour)]
    if colour == "default":
        return default
    return PALETTE.get(colour, f"#{colour}")


def mix(colour, background, share):
    """A colour between the background (0) and another (1)."""
    channels = [[int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)] for hexadecimal in (colour, background)]
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in zip(*channels))


def render(screen, fonts):
    """The screen as an image, with a regular and a bold font."""
    regular, bold = (ImageFont.truetype(font, FONT_SIZE) for font in fonts)
    width = round(regular.getlength("M"))
    ascent, descent = regular.getmetrics()
    height = ascent + descent
    size = (COLUMNS * width + 2 * PADDING, ROWS * height + 2 * PADDING)
    image = Image.new("RGB", size, BACKGROUND)
    draw = ImageDraw.Draw(image)
    for row in range(ROWS):
        for column in range(COLUMNS):
            cell = screen.buffer[row][column]
            foreground, background = rgb(cell.fg, FOREGROUND), rgb(cell.bg, BACKGROUND)
            if cell.reverse:
                foreground, background = background, foreground
            if cell.blink:
                foreground = mix(foreground, background, DIM)
            left, top = PADDING + column * width, PADDING + row * height
            if background != BACKGROUND:
                draw.rectangle((left, top, left + width - 1, top + height - 1), background)
            if not draw_shape(draw, cell.data, (left, top, width, height), foreground):
                draw.text((left, top), cell.data, foreground, bold if cell.bold else regular)
    return image


def draw_shape(draw, character, area, colour):
    """Draws a box-drawing, block or braille character, or nothing for a space. Returns whether it was one of these."""
    left, top, width, height = area
    code = ord(character[0]) if character else 0x20
    if character in BOX:
        thick = 3 if character in "━┃" else 1
        x, y = left + width // 2 - thick // 2, top + height // 2 - thick // 2
        right, bottom = left + width - 1, top + height - 1
        ends = {
            "l": (left, y, x + thick - 1, y + thick - 1), "r": (x, y, right, y + thick - 1),
            "u": (x, top, x + thick - 1, y + thick - 1), "d": (x, y, x + thick - 1, bottom),
        }
        for arm in BOX[character]:
            draw.rectangle(ends[arm], colour)
        return True
    if 0x2581 <= code <= 0x2588:  # Blocks of one to eight eighths.
        full = round(height * (code - 0x2580) / 8)
        draw.rectangle((left, top + height - full, left + width - 1, top + height - 1), colour)
        return True
    if 0x2800 <= code <= 0x28FF:
        for bit, (column, row) in enumerate(BRAILLE):
            if (code - 0x2800) >> bit & 1:
                x, y = left + width * (2 * column + 1) / 4, top + height * (2 * row + 1) / 8
                draw.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), colour)
        return True
    return character in ("", " ")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kindling", type=Path, help="the program")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder of the pictures")
    parser.add_argument("--font", type=Path, help="a monospaced font")
    arguments = parser.parse_args()
    fonts = [arguments.font or find_font(bold) for bold in (False, True)]
    with tempfile.TemporaryDirectory() as folder:
        image = render(train(arguments.kindling.resolve(), folder), fonts)
        picture = arguments.output / "live.png"
        image.quantize(64, dither=Image.Dither.NONE).save(picture, optimize=True)
        shutil.copy(Path(folder) / "runs/tiny/loss.svg", arguments.output / "loss.svg")
    print(f"{picture}: {image.width} x {image.height}, {picture.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
