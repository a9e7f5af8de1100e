"""Options as a command line has them."""


def command_line(*options: dict[str, object]) -> list[str]:
    """`--name value` for each entry, of later dictionaries before that of earlier ones; `__` in a name is the dot."""
    joined: dict[str, object] = {}
    for group in options:
        joined |= {name.replace("__", "."): value for name, value in group.items()}
    return [word for name, value in joined.items() for word in (f"--{name}", str(value))]
