# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""Use examples/app.py in a headless Chromium as a person would, and photograph it for the README.

    pip install 'itit-hf[app,browser]'; apt-get install chromium chromium-driver
    python utils/screenshot_app.py --output docs/images/app.png

Four images side by side on a wide screen, one for each tab; with `--phone`, as a phone shows them.
"""

import argparse
import contextlib
import io
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import PIL.Image

ROOT = Path(__file__).parents[1]
SCREENS = {"desktop": (1280, 800), "phone": (390, 844)}
TABS = ("Draw", "Edit", "Describe", "Cycle")


def missing() -> str | None:
    """What the browser test lacks here, or `None`."""
    for module, extra in (("gradio", "app"), ("selenium", "browser")):
        try:
            __import__(module)
        except ImportError:
            return f"no {module}; pip install 'itit-hf[{extra}]'"
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            return f"no {program}; on Debian: apt-get install chromium chromium-driver"
    return None


@contextlib.contextmanager
def serve(model: str, timeout: float = 300.0) -> Iterator[str]:
    """Start the app with a pipeline folder; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(ROOT / "examples" / "app.py"), "--model", model, "--server_port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    address = f"http://127.0.0.1:{port}/"
    try:
        for _ in range(int(timeout * 4)):
            if process.poll() is not None:
                raise RuntimeError(f"the app ended: {process.stderr.read()[-2000:]}")
            with contextlib.suppress(urllib.error.URLError, ConnectionError):
                urllib.request.urlopen(address, timeout=5).close()
                break
            time.sleep(0.25)
        yield address
    finally:
        process.terminate()
        process.communicate(timeout=30)


class Visitor:
    """A headless Chromium on the app's page.

    Args:
        address (`str`): The app.
        screen (`str`): `"desktop"` or `"phone"`.
        timeout (`float`, *optional*, defaults to 300.0): Seconds to wait for anything.
    """

    def __init__(self, address: str, screen: str, timeout: float = 300.0):
        from selenium import webdriver
        from selenium.webdriver.support.ui import WebDriverWait

        width, height = SCREENS[screen]
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        # The image editor draws by WebGL, which without a graphics card is done in software.
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--enable-unsafe-swiftshader"):
            options.add_argument(flag)
        options.add_argument(f"--window-size={width},{height}")
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service, keep_alive=False)
        self.driver.command_executor.client_config.timeout = timeout  # of one command; the editor can be slow
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": screen == "phone"}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.set_script_timeout(timeout)
        self.wait = WebDriverWait(self.driver, timeout)
        self.driver.get(address)
        self.find("#draw-prompt textarea, #draw-prompt input")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.driver.quit()

    def find(self, selector: str):
        """The first visible element of a CSS selector, when it is there."""

        def visible(driver):
            found = driver.find_elements("css selector", selector)
            return next((element for element in found if element.is_displayed()), None)

        return self.wait.until(visible, f"nothing visible is {selector}")

    def click(self, selector: str):
        """Click it."""
        element = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def write(self, selector: str, text: str):
        """Type into the field inside an element."""
        field = self.find(f"{selector} textarea, {selector} input")
        field.clear()
        field.send_keys(text)

    def open(self, tab: str):
        """Go to a tab; on a narrow screen the last ones are in a menu."""
        from selenium.common.exceptions import TimeoutException

        def button(driver):
            found = driver.find_elements("xpath", f"//button[normalize-space()='{tab}']")
            tabs = [one for one in found if one.get_attribute("role") == "tab" or "overflow" in _classes(one)]
            return next((one for one in tabs if one.is_displayed()), None)

        if button(self.driver) is None:
            self.click(".overflow-menu > button")
        try:
            self.wait.until(button).click()
        except TimeoutException as error:
            raise RuntimeError(f"there is no tab {tab!r}") from error

    def wait_for_text(self, selector: str, text: str):
        """Wait until an element shows it."""
        self.wait.until(lambda driver: text in self.find(selector).text, f"{selector} never showed {text!r}")

    def image(self) -> PIL.Image.Image:
        """The image that the open tab shows, as the app sent it."""
        source = self.find(".image img").get_attribute("src")
        return PIL.Image.open(io.BytesIO(urllib.request.urlopen(source, timeout=30).read())).convert("RGB")

    def paint(self):
        """Brush across the middle of the editor."""
        from selenium.webdriver import ActionChains

        canvas = self.find("#editor canvas")
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", canvas)
        time.sleep(1.0)  # the canvas is still being laid out
        chain = ActionChains(self.driver, duration=50).move_to_element_with_offset(canvas, -40, 0).click_and_hold()
        for _ in range(8):
            chain.move_by_offset(10, 0)
        chain.release().perform()
        time.sleep(1.0)  # the editor sends its layers after a pause

    def screenshot(self) -> PIL.Image.Image:
        """What is on the screen, from the top."""
        self.driver.execute_script("window.scrollTo(0, 0)")
        time.sleep(0.5)
        return PIL.Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")


def _classes(element) -> str:
    return element.find_element("xpath", "..").get_attribute("class") or ""


def tour(visitor: Visitor, prompt: str, edit_prompt: str) -> list[PIL.Image.Image]:
    """Use every tab, the editor, which is the heaviest, at last; gives a screenshot of each."""
    visitor.write("#draw-prompt", prompt)
    visitor.click("#draw-button")
    visitor.wait_for_text("#draw-line", "Done")
    visitor.wait.until(lambda _: visitor.find(".image img").get_property("naturalWidth"))  # it comes after its line
    shots = {"Draw": visitor.screenshot()}
    generated = visitor.image()
    visitor.open("Describe")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "generated.png"
        generated.save(path)
        visitor.driver.find_element("css selector", "#describe-image input[type=file]").send_keys(str(path))
        visitor.find("#describe-image img")
    visitor.click("#describe-button")
    visitor.wait.until(lambda driver: visitor.find("#caption textarea").get_attribute("value"))
    shots["Describe"] = visitor.screenshot()
    visitor.open("Cycle")
    visitor.write("#cycle-prompt", prompt)
    visitor.click("#cycle-button")
    visitor.find(".rounds img")
    shots["Cycle"] = visitor.screenshot()
    visitor.open("Draw")
    visitor.click("#to-editor")
    visitor.paint()
    visitor.write("#edit-prompt", edit_prompt)
    visitor.click("#edit-button")
    visitor.wait_for_text("#edit-line", "Done")
    shots["Edit"] = visitor.screenshot()
    return [shots[tab] for tab in TABS]


def main(arguments: list[str] | None = None):
    """Serve, visit, save."""
    parser = argparse.ArgumentParser(description="Photograph the app.")
    parser.add_argument("--model", default="checkpoints/emoji-scenes-64", help="Pipeline folder.")
    parser.add_argument("--output", default="docs/images/app.png", help="Where the image is written.")
    parser.add_argument("--prompt", default="a red bus", help="What is generated, and what the cycle starts from.")
    parser.add_argument("--edit_prompt", default="a blue bus", help="What is painted in.")
    parser.add_argument("--phone", action="store_true", help="On a narrow screen.")
    args = parser.parse_args(arguments)
    if reason := missing():
        raise SystemExit(reason)
    screen = "phone" if args.phone else "desktop"
    with serve(args.model) as address, Visitor(address, screen) as visitor:
        shots = tour(visitor, args.prompt, args.edit_prompt)
    columns = 2 if screen == "desktop" else 4
    width, height = shots[0].size
    sheet = PIL.Image.new("RGB", (columns * width, -(-len(shots) // columns) * height), "white")
    for i, shot in enumerate(shots):
        sheet.paste(shot, (i % columns * width, i // columns * height))
    sheet = sheet.reduce(2) if screen == "desktop" else sheet
    path = Path(args.output)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(128).save(path, optimize=True)  # a page has few colours


if __name__ == "__main__":
    main()
