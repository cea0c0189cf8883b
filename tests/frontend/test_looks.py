from collections.abc import Callable
from io import BytesIO

from PIL import Image
from playwright.sync_api import Page, expect

from tests.frontend.support import Chat, wait_for

PHONE = {
    "viewport": {"width": 390, "height": 844},
    "is_mobile": True,
    "has_touch": True,
    "device_scale_factor": 2,
}


def brightness(page: Page) -> float:
    """Mean brightness of what is on the screen, from 0 to 255."""
    picture = Image.open(BytesIO(page.screenshot())).convert("L")
    return sum(value * count for value, count in enumerate(picture.histogram())) / (
        picture.width * picture.height
    )


def test_theme_follows_the_system_and_the_toggle(open_page: Callable[..., Page], page_address: str) -> None:
    page = open_page(page_address, color_scheme="light")
    wait_for(lambda: brightness(page) > 230, "light colours")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("body.dark")).to_have_count(1)
    wait_for(lambda: brightness(page) < 40, "dark colours")
    page.get_by_role("button", name="Light theme").click()
    expect(page.locator("body.dark")).to_have_count(0)
    wait_for(lambda: brightness(page) > 230, "light colours")
    page.reload()  # the choice outlives the page
    expect(page.locator("#status .chip.ready")).to_be_visible()
    wait_for(lambda: brightness(page) > 230, "light colours")
    page.get_by_role("button", name="Dark theme").click()
    expect(page.locator("body.dark")).to_have_count(1)
    assert page.evaluate("localStorage.getItem('byollm-theme')") is None  # follows the system again


def test_phone_needs_no_sideways_scrolling(open_page: Callable[..., Page], page_address: str) -> None:
    page = open_page(page_address, **PHONE)
    chat = Chat(page)

    def fits() -> bool:
        return bool(page.evaluate("document.scrollingElement.scrollWidth <= 390 && innerWidth === 390"))

    wait_for(fits, "the page to fit")
    chat.ask_and_wait("a-very-long-word-" * 30)
    expect(chat.answers).to_contain_text("a-very-long-word-" * 30)
    wait_for(fits, "the chat to fit")
    for name in ("Settings", "Model"):
        page.get_by_role("button", name=name, exact=True).tap()
        panel = page.get_by_role("region", name=name)
        expect(panel).to_be_visible()
        page.wait_for_function(
            "id => document.getElementById(id).getBoundingClientRect().x === 0", arg=f"{name.lower()}-panel"
        )
        wait_for(fits, "the panel to fit")
        panel.get_by_role("button", name="Close").tap()
        expect(panel).to_be_hidden()
    for button in page.locator("#head button").all():
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 36


def test_card_shows_the_facts_and_the_text_without_front_matter(page: Page) -> None:
    page.get_by_role("button", name="Model", exact=True).click()
    panel = page.get_by_role("region", name="Model")
    for label, value in {"Parameters": "1.23 M", "Context": "512 tokens", "Version": "9.9"}.items():
        expect(panel.locator("dl > div", has=page.get_by_text(label, exact=True)).locator("dd")).to_have_text(
            value
        )
    expect(panel.get_by_role("heading", name="The scripted model")).to_be_visible()
    expect(panel.locator("td")).to_have_text(["validation loss", "1.23"])
    expect(panel).not_to_contain_text("apache-2.0")
    assert page.evaluate("window.pwned") is None


def test_everything_is_reached_by_keyboard(page: Page) -> None:
    chat = Chat(page)
    expect(chat.composer).to_be_focused()
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    expect(chat.questions).to_have_text("first line\nsecond line", use_inner_text=True)
    chat.wait()

    settings = page.get_by_role("button", name="Settings", exact=True)
    settings.focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("region", name="Settings")
    expect(panel.get_by_role("button", name="Close settings")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("System prompt")).to_be_focused()
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    expect(settings).to_be_focused()


def test_every_control_has_a_name(page: Page) -> None:
    chat = Chat(page)
    chat.ask_and_wait("hello")
    page.get_by_role("button", name="Settings", exact=True).click()
    page.get_by_role("button", name="More sampling").click()
    page.get_by_role("button", name="Penalties").click()
    for role in ("button", "textbox", "spinbutton", "slider"):
        for control in page.get_by_role(role).all():
            name = control.aria_snapshot().removeprefix(f"- {role}").strip()
            assert name.startswith('"'), control.evaluate("element => element.outerHTML")
