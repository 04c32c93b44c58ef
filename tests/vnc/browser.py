"""noVNC's page at URL in a headless Chromium, given orders. Its profile is in DIRECTORY. It
refuses to look at anything but the page's canvas, and to type anywhere else."""

import base64
import io
import sys

from orders import obey
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

# How long the page may take to load and to be connected, in seconds.
BOUND = 60

# The same key as another character, while Shift is held.
SHIFTED = dict(zip('~!@#$%^&*()_+{}|:"<>?', "`1234567890-=[]\\;',./"))

ARGUMENTS = [
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-dev-shm-usage",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "window-size=1280,1024",
]


def browser(directory):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for argument in [*ARGUMENTS, f"user-data-dir={directory}/profile"]:
        options.add_argument(f"--{argument}")
    # Named, so that none is looked for elsewhere.
    service = webdriver.ChromeService("/usr/bin/chromedriver")
    return webdriver.Chrome(options=options, service=service)


def main(url, directory):
    page = browser(directory)
    page.set_page_load_timeout(BOUND)
    page.get(url)
    status = page.find_element(By.ID, "status")
    WebDriverWait(page, BOUND).until(lambda _: status.text.startswith("Connected"))
    canvas = page.find_element(By.CSS_SELECTOR, "#screen canvas")
    page.execute_script("arguments[0].focus()", canvas)

    def types(text):
        keys = ActionChains(page)
        for character in text:
            plain = SHIFTED.get(character, character.lower())
            if character == "\n":
                keys.send_keys(Keys.ENTER)
            elif plain == character:
                keys.send_keys(character)
            else:
                keys.key_down(Keys.SHIFT).send_keys(plain).key_up(Keys.SHIFT)
        keys.perform()

    def captures(path):
        data = page.execute_script("return arguments[0].toDataURL('image/png')", canvas)
        png = base64.b64decode(data.split(",", 1)[1])
        Image.open(io.BytesIO(png)).convert("RGB").save(path)

    obey(types, captures)
    page.quit()


main(*sys.argv[1:])
