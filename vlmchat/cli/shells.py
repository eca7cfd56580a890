"""How bash asks what may follow; zsh and fish ask in click's own way.

Bash splits words at ``:`` and ``=`` too, which stand in ``internvl2:1b`` and ``--device=cpu``. So its script hands
over the line as it stands, and takes off what bash has split from an offered word.
"""

from __future__ import annotations

import os

from click.shell_completion import BashComplete, add_completion_class, split_arg_string

_SCRIPT = r"""%(complete_func)s() {
    local IFS=$'\n' answer line=${COMP_LINE:0:COMP_POINT} type value
    local word=${line##*[[:space:]]} breaks=${COMP_WORDBREAKS//[^:=]/}
    local present=${word%%"${word##*[[:space:]$breaks]}"}
    answer=$(COMP_LINE=$line %(complete_var)s=bash_complete "$1") || return
    COMPREPLY=()
    for line in $answer; do
        IFS=, read -r type value <<< "$line"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$present"}") ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Completion for bash from the line up to the cursor."""

    source_template = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is being typed, and what there is of that."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        begun = words.pop() if words and not line[-1:].isspace() else ""
        return words[1:], begun


add_completion_class(Bash)
