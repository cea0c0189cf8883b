"""The look: paper and ink, one green, and the fonts that the reader's own system has."""

from gradio.themes import Base
from gradio.themes.utils import colors, sizes

SANS = (
    "system-ui",
    "-apple-system",
    "Segoe UI",
    "Roboto",
    "Noto Sans",
    "Ubuntu",
    "Liberation Sans",
    "sans-serif",
)
MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Noto Sans Mono", "Liberation Mono", "monospace")

_green = colors.Color(
    name="pine",
    c50="#eef6f2",
    c100="#d9ebe2",
    c200="#b5d7c7",
    c300="#86bda4",
    c400="#569d80",
    c500="#357f62",
    c600="#266650",
    c700="#205242",
    c800="#1c4236",
    c900="#18372e",
    c950="#0b1f1a",
)
_paper = colors.Color(
    name="paper",
    c50="#faf9f6",
    c100="#f3f1ec",
    c200="#e6e3db",
    c300="#d3cfc4",
    c400="#a19c90",
    c500="#79746a",
    c600="#5b574f",
    c700="#3e3b36",
    c800="#262521",
    c900="#1b1a18",
    c950="#131211",
)


def theme() -> Base:
    """Make the page's theme. Everything that is not colour, type or radius lies in assets/page.css."""
    return Base(
        primary_hue=_green,
        secondary_hue=_green,
        neutral_hue=_paper,
        radius_size=sizes.radius_md,
        font=SANS,
        font_mono=MONO,
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="#ebe8e1",
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="#ffffff",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_100",
        background_fill_secondary_dark="*neutral_800",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_700",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_weight="500",
        input_background_fill="#ffffff",
        input_background_fill_dark="*neutral_900",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_500",
        input_border_color_focus_dark="*primary_400",
        input_shadow_focus="none",
        slider_color="*primary_500",
        slider_color_dark="*primary_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_500",
        button_primary_background_fill_hover_dark="*primary_400",
        button_primary_text_color="#ffffff",
        button_secondary_background_fill="transparent",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="transparent",
        button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_border_width="1px",
        link_text_color="*primary_600",
        link_text_color_dark="*primary_300",
        color_accent="*primary_500",
        color_accent_soft="*primary_50",
        color_accent_soft_dark="*primary_950",
        prose_text_size="16px",
    )
