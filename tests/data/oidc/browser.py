"""A browser without a screen: opens URL and fills in every form as USER would.

    browser.py USER URL

Keeps cookies, sends hidden fields back, logs in, allows, accepts, and ends at a page without a form,
whose text it prints.
"""

import sys
import urllib.parse
import urllib.request
from html.parser import HTMLParser
from http.cookiejar import CookieJar

from provider import PASSWORD

# Log-in, device code, consent: nobody asks more.
FORMS_MAX = 5
BUTTONS = {"allow": "Authorize", "action": "accept"}


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.form = False
        self.fields = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.form |= tag == "form"
        if tag in ("input", "button") and "name" in attributes:
            name = attributes["name"]
            self.fields[name] = BUTTONS.get(name, attributes.get("value") or "")


def main():
    user, url = sys.argv[1:]
    cookies = urllib.request.HTTPCookieProcessor(CookieJar())
    browser = urllib.request.build_opener(cookies, urllib.request.ProxyHandler({}))
    answer = browser.open(url)
    for _ in range(FORMS_MAX):
        text = answer.read().decode()
        page = Page(text)
        if not page.form:
            print(text)
            return
        if "username" in page.fields:
            page.fields |= {"username": user, "password": PASSWORD}
        form = urllib.parse.urlencode(page.fields).encode()
        answer = browser.open(
            urllib.request.Request(answer.url, form, headers={"Referer": answer.url})
        )
    sys.exit(f"still a form after {FORMS_MAX} of them at {answer.url}")


main()
