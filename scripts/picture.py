"""Takes docs/playground.png: the playground with the default bundles, in the Chromium of the system tests.

From the root of the repository, after `make test` and `make system-deps`: .venv-dev/bin/python -m scripts.picture
Its fonts are those of Debian's fonts-inter and fonts-noto-core; without them the page looks for others.
"""

import base64
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium.webdriver.support.wait import WebDriverWait

from tests.browser import browse
from tests.server import ROOT, serve

WIDTH, HEIGHT = 1120, 800
WARM_UPS = 5  # requests before the one in the picture, whose times are those of a service that has answered before
WAIT_S = 60
ASK = """
document.querySelector('#qa .output').replaceChildren();
document.querySelector('#qa [name=top_k]').value = 3;
document.querySelector('#qa [type=submit]').click();
"""


def main(argv: Sequence[str]) -> None:
    """Write the picture, as a PNG, to the path that is given or over the one in docs."""
    path = Path(argv[0]) if argv else ROOT / "docs" / "playground.png"
    with serve(ROOT / "bundles") as (_, url), TemporaryDirectory() as profile, browse(Path(profile)) as driver:
        metrics = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        driver.get(url)
        for _ in range(WARM_UPS + 1):
            driver.execute_script(ASK)
            WebDriverWait(driver, WAIT_S).until(
                lambda driver: driver.execute_script("return document.querySelector('#qa .output').childElementCount")
            )
        picture = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(picture["data"]))


if __name__ == "__main__":
    main(sys.argv[1:])
