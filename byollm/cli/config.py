"""`byollm config`: look at the settings."""

from typing import Annotated

import typer

app = typer.Typer(help="Look at the settings.", no_args_is_help=True)


@app.command()
def show(
    env: Annotated[str, typer.Option("--env", "-e", help="The environment: config/<env>.yaml.")] = "dev",
    section: Annotated[str | None, typer.Argument(help="Show only this section, such as `server`.")] = None,
) -> None:
    """Show the settings of an environment as they are after all layers, as YAML."""
    import yaml

    from byollm.settings import SettingsError, load_settings

    tree = load_settings(env).model_dump(mode="json")
    if section is not None:
        if section not in tree:
            raise SettingsError(f"no section {section!r}: there is {', '.join(tree)}")
        tree = {section: tree[section]}
    typer.echo(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), nl=False)


@app.command()
def docs() -> None:
    """Print docs/configuration.md, made from the descriptions of the fields."""
    from byollm.settings.document import document

    typer.echo(document(), nl=False)
