"""How threads share a step: a list of operations, each cut into pieces.

Threads take pieces until none is left and go on when all are done, not when all threads have come: one that the
system has put aside holds nobody up unless it holds a piece.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import carray

from vlmchat.families.fused import table as t
from vlmchat.families.fused.kernels import (
    ONE,
    attended,
    bits,
    by_words,
    exponential,
    mapped,
    normalised,
    packed,
    rounded,
    rows_computed,
    turn,
    widen,
)
from vlmchat.families.fused.machine import (
    add,
    compiled,
    floats_at,
    nap,
    offer,
    put,
    seen,
    take,
    words_at,
    written_in,
)

_SPINS = 8000
"""Looks at a counter, some 20 us, before the core is offered to others."""
_NAPS = 400
"""Naps of 50 us before a thread leaves compiled code: an answer that goes on has asked again by then."""


@written_in
def gate(opening: Any, values: Any, narrow: Any) -> Any:
    """Return silu(opening) * values."""
    shrunk = exponential(-abs(opening))
    opened = (ONE if opening >= 0 else shrunk) / (ONE + shrunk)
    return rounded(rounded(opening * opened, narrow) * values, narrow)


@written_in
def linear(tables: Any, number: Any, operation: Any, piece: Any, narrow: Any) -> None:
    """Do a piece of a linear layer, block by block; thread ``number`` has its inputs in its room."""
    rows, width, kind = tables.control[t.ROWS], operation[t.WIDTH], operation[t.KIND]
    computed, behind = rows_computed(rows), tables.widest * (1 + t.MOST_ROWS)
    mine = tables.room[number]
    inputs, scratch = mine[tables.widest :].ctypes.data, mine[behind:]
    outputs = carray(floats_at(piece[t.OUTPUT]), (rows, operation[t.SPAN]))
    for block in range(0, piece[t.COUNT], t.BLOCK):
        count = min(t.BLOCK, piece[t.COUNT] - block)
        size = computed * count
        first = scratch[:size].reshape((computed, count))
        second = scratch[size : 2 * size].reshape((computed, count))
        mapped(piece, piece[t.WEIGHTS : t.BIAS + 1], block, inputs, width, rows, first, narrow)
        if kind == t.MAP_AND_GATE:
            mapped(piece, piece[t.SECOND_WEIGHTS : t.SECOND_BIAS + 1], block, inputs, width, rows, second, narrow)
        for row in range(rows):
            for at in range(count):
                into = block + at
                if kind == t.MAP:
                    outputs[row, into] = first[row, at]
                elif kind == t.MAP_AND_ADD:
                    outputs[row, into] = rounded(outputs[row, into] + first[row, at], narrow)
                else:
                    outputs[row, into] = gate(first[row, at], second[row, at], narrow)


@written_in
def ready(tables: Any, number: Any, operation: Any, form: Any) -> None:
    """Bring an operation's inputs into the thread's room, normalised if they are to be, as ``form`` wants them.

    Every thread that takes a piece does.
    """
    rows, width, narrow = tables.control[t.ROWS], operation[t.WIDTH], tables.narrow
    states = carray(floats_at(operation[t.SOURCE]), (rows, width))
    room = tables.room[number]
    row_of, into = room[:width], room[tables.widest :].ctypes.data
    for row in range(rows):
        values = states[row]
        if operation[t.NORM]:
            normalised(values, carray(floats_at(operation[t.NORM]), width), tables.epsilon, row_of, narrow)
            values = row_of
        if by_words(form):
            packed(values, carray(words_at(into + 2 * row * width), width))
        else:
            widen(values, carray(floats_at(into + 4 * row * width), width))


@compiled
def store(states: Any, address: Any, place: Any, narrow: Any) -> None:
    """Put float32 ``states`` of one head at their place in a buffer [places, head size]."""
    size = len(states)
    if narrow:
        words = carray(words_at(address + 2 * place * size), size)
        for at in range(size):
            words[at] = np.uint16(bits(states[at]))
    else:
        floats = carray(floats_at(address + 4 * place * size), size)
        for at in range(size):
            floats[at] = states[at]


@written_in
def kept_at(tables: Any, row: Any, piece: Any, which: Any, narrow: Any) -> Any:
    """Return the address of one key head's keys (``which`` 0) or values (1) [capacity, head size]."""
    heads, size = tables.queries.shape[1:]
    kv_heads = (tables.fresh.shape[1] - heads) // 2
    before = (tables.sequences[row] * kv_heads + piece[t.KV_HEAD]) * tables.control[t.CAPACITY] * size
    return tables.kept[piece[t.LAYER], which] + before * (2 if narrow else 4)


@written_in
def turned(tables: Any, number: Any, row: Any, piece: Any, narrow: Any) -> None:
    """Turn queries and the key of one key head, and put key and value into the cache."""
    heads, size = tables.queries.shape[1:]
    kv_heads = (tables.fresh.shape[1] - heads) // 2
    width, fresh = tables.control[t.TURNED], tables.fresh[row]
    cos, sin = tables.turning[0, row, :width], tables.turning[1, row, :width]
    for head in range(piece[t.FIRST_HEAD], piece[t.FIRST_HEAD] + piece[t.HEADS]):
        turn(fresh[head], cos, sin, tables.queries[row, head], narrow)
    key, kv_head = tables.room[number, :size], piece[t.KV_HEAD]
    turn(fresh[heads + kv_head], cos, sin, key, narrow)
    store(key, kept_at(tables, row, piece, 0, narrow), tables.places[row], narrow)
    store(fresh[heads + kv_heads + kv_head], kept_at(tables, row, piece, 1, narrow), tables.places[row], narrow)


@written_in
def attend(tables: Any, number: Any, row: Any, piece: Any, narrow: Any) -> None:
    """Attend with some query heads of one key head."""
    first, heads, size = piece[t.FIRST_HEAD], piece[t.HEADS], tables.queries.shape[2]
    keys, values = kept_at(tables, row, piece, 0, narrow), kept_at(tables, row, piece, 1, narrow)
    shape = (tables.places[row] + 1, size)
    queries, outputs = tables.queries[row, first : first + heads], tables.answers[row, first : first + heads]
    scale = ONE / np.sqrt(np.float32(size))
    if narrow:
        known = carray(words_at(keys), shape), carray(words_at(values), shape)
        attended(known[0], known[1], queries, tables.room[number], scale, outputs, narrow)
    else:
        stored = carray(floats_at(keys), shape), carray(floats_at(values), shape)
        attended(stored[0], stored[1], queries, tables.room[number], scale, outputs, narrow)


@written_in
def look_up(tables: Any, row: Any, operation: Any, piece: Any) -> None:
    """Bring the embedding of a row's new token where the layers begin."""
    width, token = operation[t.WIDTH], tables.ids[row]
    outputs = carray(floats_at(piece[t.OUTPUT] + 4 * row * width), width)
    if piece[t.FORM] == t.BFLOAT16:
        widen(carray(words_at(operation[t.SOURCE] + 2 * token * width), width), outputs)
    else:
        widen(carray(floats_at(operation[t.SOURCE] + 4 * token * width), width), outputs)


@written_in
def normalise(tables: Any, operation: Any, piece: Any) -> None:
    """Normalise an operation's inputs."""
    shape = (tables.control[t.ROWS], operation[t.WIDTH])
    inputs, weight = carray(floats_at(operation[t.SOURCE]), shape), carray(floats_at(operation[t.NORM]), shape[1])
    outputs = carray(floats_at(piece[t.OUTPUT]), shape)
    for row in range(shape[0]):
        normalised(inputs[row], weight, tables.epsilon, outputs[row], tables.narrow)


@written_in
def do(tables: Any, number: Any, at: Any, which: Any) -> None:
    """Do piece ``which`` of operation ``at``."""
    operation, narrow = tables.operations[at], tables.narrow
    row, part = which // operation[t.PIECES], which % operation[t.PIECES]
    piece, kind = tables.pieces[operation[t.FIRST_PIECE] + part], operation[t.KIND]
    if kind == t.LOOK_UP:
        look_up(tables, row, operation, piece)
    elif kind == t.TURN:
        turned(tables, number, row, piece, narrow)
    elif kind == t.ATTEND:
        attend(tables, number, row, piece, narrow)
    elif kind == t.NORMALISE:
        normalise(tables, operation, piece)
    else:
        linear(tables, number, operation, piece, narrow)


@written_in
def work(tables: Any, number: Any, step: Any, first: Any, last: Any) -> None:
    """Take part in operations ``first`` to ``last`` of ``step`` as thread ``number`` until they are done or over.

    A thread that comes late finds other tables of the next step already. It gets no piece: a ticket carries the number
    of its step and how many are left, and what a piece needs is read when it is taken.
    """
    for at in range(first, last):
        tickets = tables.counters[at].ctypes.data + 8 * t.TICKETS
        unfinished = tables.counters[at].ctypes.data + 8 * t.UNFINISHED
        # All others read states where they are.
        has_inputs = tables.operations[at, t.KIND] > t.MAP_AND_GATE
        while True:
            left = seen(tickets)
            if left >> t.SHIFT != step:
                return
            if left == step << t.SHIFT:
                break
            if take(tickets, left):
                if not has_inputs:
                    operation = tables.operations[at]
                    ready(tables, number, operation, tables.pieces[operation[t.FIRST_PIECE], t.FORM])
                    has_inputs = True
                do(tables, number, at, left - (step << t.SHIFT) - 1)
                add(unfinished, -1)
        looks, now = 0, seen(unfinished)
        while now > step << t.SHIFT and now >> t.SHIFT == step:
            looks += 1
            if looks > _SPINS:
                offer()
            now = seen(unfinished)


@written_in
def begun(tables: Any, first: Any, last: Any) -> Any:
    """Hand out the pieces of operations ``first`` to ``last``; return the number of the step."""
    step = tables.control[t.STEP] + 1
    for at in range(first, last):
        kind, pieces = tables.operations[at, t.KIND], tables.operations[at, t.PIECES]
        if kind >= t.LOOK_UP:
            pieces *= tables.control[t.ROWS]
        tables.counters[at, t.UNFINISHED] = (step << t.SHIFT) + pieces
        put(tables.counters[at].ctypes.data + 8 * t.TICKETS, (step << t.SHIFT) + pieces)
    tables.control[t.FIRST], tables.control[t.LAST] = first, last
    put(tables.control.ctypes.data + 8 * t.STEP, step)
    return step


@compiled
def take_part(tables: Any, number: Any, first: Any, last: Any) -> None:
    """Work as thread ``number``.

    The first, 0, begins a step of operations ``first`` to ``last`` and returns when it is done. The others take part
    in every step and return when none has come for some 20 ms.
    """
    control = tables.control.ctypes.data
    inside = control + 8 * (t.INSIDE + 8 * number)
    step, looks = np.int64(-1), 0
    if number == 0:
        step = begun(tables, first, last) - 1
    while True:
        now = seen(control + 8 * t.STEP)
        if now != step:
            step, looks = now, 0
            work(tables, number, step, seen(control + 8 * t.FIRST), seen(control + 8 * t.LAST))
            if number == 0:
                return
        looks += 1
        if looks > _SPINS:
            nap(np.int32(50))
        if looks > _SPINS + _NAPS or seen(control + 8 * t.LEAVE):
            put(inside, 0)
            return
