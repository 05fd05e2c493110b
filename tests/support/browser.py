"""A real browser in front of the ingress, which notes whatever a page should not do."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Request, sync_playwright

from deploy.native.install import Installer
from tests.support.system import SystemUnderTest

SERIOUS = {"serious", "critical"}
LOCAL = {"data", "blob", "about"}


@contextmanager
def chromium(state_dir: Path) -> Iterator[Browser]:
    """Run Chromium."""
    path = Installer(state_dir, print).browser()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visitor:
    """One person with a browser; `complaints` are violations of the policy, errors of scripts, and foreign requests."""

    system: SystemUnderTest
    context: BrowserContext
    page: Page = field(init=False)
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.url = self.system.stack.env["PENSTOCK_HTTP_URL"]
        self.context.on("request", self._look_at)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(f"error {error}"))
        self.page.on("console", lambda line: self.complaints.append(line.text) if _is_complaint(line) else None)

    def _look_at(self, request: Request) -> None:
        own = {urlsplit(url).netloc for url in (self.url, self.system.stack.env["PENSTOCK_S3_ENDPOINT"])}
        target = urlsplit(request.url)
        if target.scheme not in LOCAL and target.netloc not in own:
            self.complaints.append(f"foreign {request.url}")

    def go(self, path: str) -> Page:
        """Open a page of the ingress."""
        self.page.goto(f"{self.url}{path}")
        return self.page

    def findings(self) -> list[str]:
        """Return what keeps people from using the page, as axe finds it."""
        found: list[dict[str, Any]] = Axe().run(self.page).response["violations"]
        return [
            f"{one['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for one in found
            if one["impact"] in SERIOUS
            for node in one["nodes"]
        ]


def _is_complaint(line: Any) -> bool:
    return "Content Security Policy" in line.text or "Content-Security-Policy" in line.text


@contextmanager
def visiting(browser: Browser, system: SystemUnderTest, *, logged_in: str = "", **options: Any) -> Iterator[Visitor]:
    """Give a person a browser of its own; `logged_in` is a one-time link."""
    context = browser.new_context(base_url=system.stack.env["PENSTOCK_HTTP_URL"], **options)
    context.set_default_timeout(20_000)
    try:
        visitor = Visitor(system, context)
        if logged_in:
            visitor.page.goto(logged_in)
        yield visitor
    finally:
        context.close()
