"""The programs in Triton that `window_attention` launches: attention in shifted windows, forward and backward.

Queries, keys and values are read where the linear layer left them: nothing is padded, rolled or cut in memory, and no
matrix of scores is written. As on a CPU (see models/window_attention), windows are cut where the roll
would join two ends of an axis, so that no mask is needed, and only tokens that exist are computed with: all pads of a
window are one sink, a key and a value of zeros whose score is the logsumexp over their position biases. Here it is no
more than the state that the running softmax starts from.

Along an axis windows are of at most three kinds: 0, whole; 1, the last; 2, the first of a shifted axis. A kind of
window is one for each axis, and its place says which of its kind it is. Its tokens are counted in turn over those that
exist. ``prepare`` writes for each kind the biases of its tokens in that order, -inf beyond the last: the inner loops
need neither masks nor positions.

Letters: B crops; X, Y, Z tokens along the axes; C channels; F = 3 C; H heads; d channels of a head; n positions of a
window; K kinds; m = n rounded up to whole blocks; D = d rounded up to what a tensor core takes. x, y, z are tokens,
i, j, k positions in a window.
Levels are log2 of the sums of a query's exponentials, inner products sum_j P_ij dP_ij = out_i . grad_i; both have a
number for each head and token, token after token of a window. Scores are in units of log2, as the hardware knows exp2.
"""

from __future__ import annotations

from voco_cli.models.kernels.triton_here import kernel, tl

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, disable-error-code="untyped-decorator"


COUNTS = ["crops", "heads", "together", "starts", "places", "kinds"]
"""A program is not compiled again for numbers that happen to be 1 or multiples of 16."""


@kernel
def _cut(index, size, window, shift):
    """Return a window's first token along an axis, tokens there, tokens and pads, and position of the first."""
    base = shift + (index - tl.minimum(shift, 1)) * window
    end = tl.minimum(base + window, tl.cdiv(size, window) * window)
    start = tl.maximum(base, 0)
    return start, tl.minimum(end, size) - start, end - start, start - base


@kernel
def _count(size, window, shift):
    """Count the windows along an axis that hold a token."""
    return tl.cdiv(size - shift, window) + tl.minimum(shift, 1)


@kernel
def _kind_of(index, count, shift):
    return tl.where(index == count - 1, 1, tl.where((index == 0) & (shift > 0), 2, 0))


@kernel
def _windows_of_kind(kind, size, window, shift):
    """Count the windows along an axis that are of a kind, and return the first's place among all."""
    count, first = _count(size, window, shift), tl.minimum(shift, 1)
    many = tl.where(kind == 0, count - 1 - first, 1)
    return many, tl.where(kind == 0, first, tl.where(kind == 1, count - 1, 0))


@kernel
def _kinds(kind, sizes, window, shift):
    """Return for each axis what ``_windows_of_kind`` says of a kind of windows."""
    kinds_y, kinds_z = 2 + tl.minimum(shift[1], 1), 2 + tl.minimum(shift[2], 1)
    many_x, x = _windows_of_kind(kind // (kinds_y * kinds_z), sizes[0], window[0], shift[0])
    many_y, y = _windows_of_kind(kind // kinds_z % kinds_y, sizes[1], window[1], shift[1])
    many_z, z = _windows_of_kind(kind % kinds_z, sizes[2], window[2], shift[2])
    return many_x, many_y, many_z, x, y, z


@kernel
def _token(index, ny, nz):
    """Place a token among nx * ny * nz; the quotients are exact while index * ny * nz < 2^20, and much faster."""
    line = (index * ((1048576 + nz - 1) // nz)) >> 20
    i = (line * ((1048576 + ny - 1) // ny)) >> 20
    return i, line - i * ny, index - line * nz


@kernel
def _rows(index, ny, nz, sizes):
    """Number a window's tokens in the crop, counted from its first."""
    x, y, z = _token(index, ny, nz)
    return (x * sizes[1] + y) * sizes[2] + z


@kernel
def _positions(index, ny, nz, ox, oy, oz, window):
    """Return the positions of a window's tokens, in MONAI's count."""
    x, y, z = _token(index, ny, nz)
    return ((x + ox) * window[1] + y + oy) * window[2] + z + oz


@kernel
def _start(sizes, x0, y0, z0, nx, ny):
    """Number a window's first token in the crop, and count the tokens in the windows before it."""
    return (x0 * sizes[1] + y0) * sizes[2] + z0, (x0 * sizes[1] + nx * y0) * sizes[2] + nx * ny * z0


@kernel
def _task(crops, sizes, window, shift, heads, together, ROWS: tl.constexpr):
    """Find the block of rows of a window and a head that a program computes.

    Neighbours have the same head and block and other windows, so that they find the biases in the cache; after
    ``together`` windows the next block and head follow, whose keys and values lie beside those just read.
    Returns: head, first row, kind of the window, number of its first token, tokens of windows before it, its own
    tokens in all, along y and along z.
    """
    blocks = tl.cdiv(window[0] * window[1] * window[2], ROWS)
    rest = tl.program_id(0) // together
    number = rest // blocks // heads * together + tl.program_id(0) % together
    crop, place = number % crops, number // crops
    ax, ay = _count(sizes[0], window[0], shift[0]), _count(sizes[1], window[1], shift[1])
    az = _count(sizes[2], window[2], shift[2])
    i, j, k = place // (ay * az), place // az % ay, place % az
    x0, nx, _sx, _ox = _cut(i, sizes[0], window[0], shift[0])
    y0, ny, _sy, _oy = _cut(j, sizes[1], window[1], shift[1])
    z0, nz, _sz, _oz = _cut(k, sizes[2], window[2], shift[2])
    kind = _kind_of(i, ax, shift[0]) * (2 + tl.minimum(shift[1], 1)) + _kind_of(j, ay, shift[1])
    kind = kind * (2 + tl.minimum(shift[2], 1)) + _kind_of(k, az, shift[2])
    first, before = _start(sizes, x0, y0, z0, nx, ny)
    tokens = crop.to(tl.int64) * (sizes[0] * sizes[1] * sizes[2])
    count = tl.where(i < ax, nx * ny * nz, 0)
    return rest // blocks % heads, rest % blocks * ROWS, kind, tokens + first, tokens + before, count, ny, nz


@kernel
def _load(tokens, rows, exist, stride, d: tl.constexpr, D: tl.constexpr):
    """Load the channels of a head, zeros beyond them and for tokens that do not exist."""
    channel = tl.arange(0, D)[None, :]
    return tl.load(tokens + (rows[:, None] * stride + channel), mask=exist[:, None] & (channel < d), other=0.0)


@kernel
def _store(tokens, values, rows, exist, stride, d: tl.constexpr, D: tl.constexpr):
    channel = tl.arange(0, D)[None, :]
    target = tokens + (rows[:, None] * stride + channel)
    tl.store(target, values.to(tokens.dtype.element_ty), mask=exist[:, None] & (channel < d))


@kernel(do_not_specialize=COUNTS)
def prepare(
    bias, biases, sinks, sizes, window, shift, heads, m, per_product, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Write biases_KHnm, times ``per_product``, and sinks_KHn, in log2: a block of rows of a kind and a head."""
    kind, head, n = tl.program_id(1), tl.program_id(2), window[0] * window[1] * window[2]
    many_x, many_y, many_z, i, j, k = _kinds(kind, sizes, window, shift)
    _x, nx, sx, ox = _cut(i, sizes[0], window[0], shift[0])
    _y, ny, sy, oy = _cut(j, sizes[1], window[1], shift[1])
    _z, nz, sz, oz = _cut(k, sizes[2], window[2], shift[2])
    count, start = nx * ny * nz, tl.program_id(0) * ROWS
    if (many_x * many_y * many_z > 0) & (start < count):
        row, column = start + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
        exist = (row < count)[:, None]
        of_rows = bias + ((head * n + _positions(row, ny, nz, ox, oy, oz, window)) * n)[:, None]
        seen = of_rows + _positions(column, ny, nz, ox, oy, oz, window)[None, :]
        found = tl.load(seen, mask=exist & (column < count)[None, :], other=float("-inf")) * per_product
        target = biases + ((kind * heads + head) * n + row).to(tl.int64)[:, None] * m + column[None, :]
        tl.store(target, found.to(biases.dtype.element_ty), mask=exist & (column < m)[None, :])
        x, y, z = column // (window[1] * window[2]) - ox, column // window[2] % window[1] - oy, column % window[2] - oz
        pad = (x >= 0) & (x < sx) & (y >= 0) & (y < sy) & (z >= 0) & (z < sz) & (column < n)
        pad = pad & ((x >= nx) | (y >= ny) | (z >= nz))
        score = tl.load(of_rows + column[None, :], mask=exist & pad[None, :], other=float("-inf"))
        top = tl.maximum(tl.max(score, 1), -1e30)
        total = tl.sum(tl.exp(score - top[:, None]), 1)
        sink = tl.where(total > 0, (top + tl.log(tl.maximum(total, 1e-30))) * 1.4426950408889634, float("-inf"))
        tl.store(sinks + (kind * heads + head) * n + row, sink, mask=row < count)


@kernel(do_not_specialize=COUNTS)
def forward(
    qkv, biases, sinks, out, levels, crops, sizes, window, shift, heads, m, together,
    d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write the outputs of a block of queries, and their levels."""
    head, start, kind, first, before, count, ny, nz = _task(crops, sizes, window, shift, heads, together, ROWS)
    if start < count:
        n, C, per_product = window[0] * window[1] * window[2], heads * d, d**-0.5 * 1.4426950408889634
        row, column = start + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
        exist, rows, tokens = row < count, _rows(row, ny, nz, sizes), qkv + first * 3 * C + head * d
        q = _load(tokens, rows, exist, 3 * C, d, D)
        of_rows = (kind * heads + head) * n + row
        bias = biases + of_rows.to(tl.int64)[:, None] * m + column[None, :]
        top = tl.load(sinks + of_rows, mask=exist, other=0.0)
        total = tl.where(top > float("-inf"), 1.0, 0.0)
        mixed = tl.zeros((ROWS, D), tl.float32)
        for block in range(0, count, COLUMNS):
            columns, present = _rows(block + column, ny, nz, sizes), block + column < count
            k, v = (
                _load(tokens + C, columns, present, 3 * C, d, D),
                _load(tokens + 2 * C, columns, present, 3 * C, d, D),
            )
            start_from = tl.load(bias + block, mask=exist[:, None], other=0.0).to(tl.float32)
            score = tl.dot(q, tl.trans(k), start_from, input_precision=PRECISION)
            higher = tl.maximum(top, tl.max(score, 1) * per_product)
            p, shrink = tl.exp2(score * per_product - higher[:, None]), tl.exp2(top - higher)
            total = total * shrink + tl.sum(p, 1)
            mixed = tl.dot(p.to(v.dtype), v, mixed * shrink[:, None], input_precision=PRECISION)
            top = higher
        _store(out + first * C + head * d, mixed / total[:, None], rows, exist, C, d, D)
        of_head = head.to(tl.int64) * (crops * sizes[0] * sizes[1] * sizes[2]) + before
        tl.store(levels + of_head + row, top + tl.log2(total), mask=exist)


@kernel(do_not_specialize=COUNTS)
def queries_backward(
    qkv, biases, out, levels, grad, inner_products, grad_qkv, crops, sizes, window, shift, heads, m, together,
    d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a block of queries, and their inner products, which the programs below need too."""
    head, start, kind, first, before, count, ny, nz = _task(crops, sizes, window, shift, heads, together, ROWS)
    if start < count:
        n, C, per_product = window[0] * window[1] * window[2], heads * d, d**-0.5 * 1.4426950408889634
        row, column = start + tl.arange(0, ROWS), tl.arange(0, COLUMNS)
        exist, rows, tokens = row < count, _rows(row, ny, nz, sizes), qkv + first * 3 * C + head * d
        q = _load(tokens, rows, exist, 3 * C, d, D)
        g = _load(grad + first * C + head * d, rows, exist, C, d, D)
        o = _load(out + first * C + head * d, rows, exist, C, d, D)
        inner = tl.sum(g.to(tl.float32) * o.to(tl.float32), 1)
        of_head = head.to(tl.int64) * (crops * sizes[0] * sizes[1] * sizes[2]) + before
        tl.store(inner_products + of_head + row, inner, mask=exist)
        level = tl.load(levels + of_head + row, mask=exist, other=float("inf"))
        bias = biases + ((kind * heads + head) * n + row).to(tl.int64)[:, None] * m + column[None, :]
        grad_q = tl.zeros((ROWS, D), tl.float32)
        for block in range(0, count, COLUMNS):
            columns, present = _rows(block + column, ny, nz, sizes), block + column < count
            k, v = (
                _load(tokens + C, columns, present, 3 * C, d, D),
                _load(tokens + 2 * C, columns, present, 3 * C, d, D),
            )
            start_from = tl.load(bias + block, mask=exist[:, None], other=0.0).to(tl.float32)
            score = tl.dot(q, tl.trans(k), start_from, input_precision=PRECISION)
            p = tl.exp2(score * per_product - level[:, None])
            grad_score = p * (tl.dot(g, tl.trans(v), input_precision=PRECISION) - inner[:, None])
            grad_q = tl.dot(grad_score.to(k.dtype), k, grad_q, input_precision=PRECISION)
        _store(grad_qkv + first * 3 * C + head * d, grad_q * d**-0.5, rows, exist, 3 * C, d, D)


@kernel(do_not_specialize=COUNTS)
def keys_backward(
    qkv, biases, levels, grad, inner_products, grad_qkv, crops, sizes, window, shift, heads, m, together,
    d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write the gradients of a block of keys and values."""
    head, start, kind, first, before, count, ny, nz = _task(crops, sizes, window, shift, heads, together, COLUMNS)
    if start < count:
        n, C, per_product = window[0] * window[1] * window[2], heads * d, d**-0.5 * 1.4426950408889634
        row, column = tl.arange(0, ROWS), start + tl.arange(0, COLUMNS)
        present, columns, tokens = column < count, _rows(column, ny, nz, sizes), qkv + first * 3 * C + head * d
        k, v = _load(tokens + C, columns, present, 3 * C, d, D), _load(tokens + 2 * C, columns, present, 3 * C, d, D)
        of_head = head.to(tl.int64) * (crops * sizes[0] * sizes[1] * sizes[2]) + before
        bias = biases + ((kind * heads + head) * n + row).to(tl.int64)[:, None] * m + column[None, :]
        grad_k, grad_v = tl.zeros((COLUMNS, D), tl.float32), tl.zeros((COLUMNS, D), tl.float32)
        for block in range(0, count, ROWS):
            exist, rows = block + row < count, _rows(block + row, ny, nz, sizes)
            q, g = _load(tokens, rows, exist, 3 * C, d, D), _load(grad + first * C + head * d, rows, exist, C, d, D)
            level = tl.load(levels + of_head + block + row, mask=exist, other=float("inf"))
            inner = tl.load(inner_products + of_head + block + row, mask=exist, other=0.0)
            start_from = tl.load(bias + block * m, mask=exist[:, None], other=0.0).to(tl.float32)
            score = tl.dot(q, tl.trans(k), start_from, input_precision=PRECISION)
            p = tl.exp2(score * per_product - level[:, None])
            grad_v = tl.dot(tl.trans(p.to(g.dtype)), g, grad_v, input_precision=PRECISION)
            grad_score = p * (tl.dot(g, tl.trans(v), input_precision=PRECISION) - inner[:, None])
            grad_k = tl.dot(tl.trans(grad_score.to(q.dtype)), q, grad_k, input_precision=PRECISION)
        target = grad_qkv + first * 3 * C + head * d
        _store(target + C, grad_k * d**-0.5, columns, present, 3 * C, d, D)
        _store(target + 2 * C, grad_v, columns, present, 3 * C, d, D)


@kernel(do_not_specialize=COUNTS)
def bias_backward(
    qkv, biases, sinks, levels, grad, inner_products, parts, sink_parts, crops, sizes, window, shift, heads, m,
    starts, places,
    d: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write gradients of a kind's biases, a block of queries by one of keys, summed over crops at some places.

    The first part of a kind is ``starts[kind] / 16``; numbers that 16 divides are all alike to the compiler.
    """
    n = window[0] * window[1] * window[2]
    blocks = tl.cdiv(n, COLUMNS)
    tiles = tl.cdiv(n, ROWS) * blocks
    tile, head = tl.program_id(0) % tiles, tl.program_id(0) // tiles % heads
    part = tl.program_id(0) // tiles // heads
    kind, begin = part * 0 - 1, part * 0
    for index in tl.static_range(len(starts)):
        kind += tl.where(part * 16 >= starts[index], 1, 0)
        begin = tl.where(part * 16 >= starts[index], starts[index] // 16, begin)
    many_x, many_y, many_z, a, b, c = _kinds(kind, sizes, window, shift)
    x0, nx, _sx, _ox = _cut(a, sizes[0], window[0], shift[0])
    y0, ny, _sy, _oy = _cut(b, sizes[1], window[1], shift[1])
    z0, nz, _sz, _oz = _cut(c, sizes[2], window[2], shift[2])
    count, C, per_product = nx * ny * nz, heads * d, d**-0.5 * 1.4426950408889634
    row, column = tile // blocks * ROWS + tl.arange(0, ROWS), tile % blocks * COLUMNS + tl.arange(0, COLUMNS)
    if (tile // blocks * ROWS < count) & (tile % blocks * COLUMNS < count):
        exist, present = row < count, column < count
        rows, columns = _rows(row, ny, nz, sizes), _rows(column, ny, nz, sizes)
        of_rows, of_part = (kind * heads + head) * n + row, (part * heads + head) * n + row
        stored = biases + of_rows.to(tl.int64)[:, None] * m + column[None, :]
        bias = tl.load(stored, mask=exist[:, None], other=0.0)
        sink = tl.load(sinks + of_rows, mask=exist, other=0.0)
        of_crop = sizes[0] * sizes[1] * sizes[2]
        total, grad_sink = tl.zeros((ROWS, COLUMNS), tl.float32), tl.zeros((ROWS,), tl.float32)
        first_place = (part - begin) * places
        for place in range(first_place, tl.minimum(first_place + places, many_x * many_y * many_z)):
            x = x0 + place // (many_y * many_z) * window[0]
            y, z = y0 + place // many_z % many_y * window[1], z0 + place % many_z * window[2]
            first, before = _start(sizes, x, y, z, nx, ny)
            for crop in range(crops):
                token = (crop * of_crop + first).to(tl.int64)
                number = head.to(tl.int64) * (crops * of_crop) + crop * of_crop + before
                tokens = qkv + token * 3 * C + head * d
                q, g = _load(tokens, rows, exist, 3 * C, d, D), _load(grad + token * C + head * d, rows, exist, C, d, D)
                k, v = (
                    _load(tokens + C, columns, present, 3 * C, d, D),
                    _load(tokens + 2 * C, columns, present, 3 * C, d, D),
                )
                level = tl.load(levels + number + row, mask=exist, other=float("inf"))
                inner = tl.load(inner_products + number + row, mask=exist, other=0.0)
                score = tl.dot(q, tl.trans(k), bias.to(tl.float32), input_precision=PRECISION)
                p = tl.exp2(score * per_product - level[:, None])
                total += p * (tl.dot(g, tl.trans(v), input_precision=PRECISION) - inner[:, None])
                grad_sink -= tl.exp2(sink - level) * inner
        tl.store(parts + of_part.to(tl.int64)[:, None] * m + column[None, :], total, mask=exist[:, None])
        tl.store(sink_parts + of_part, grad_sink, mask=exist)


@kernel(do_not_specialize=COUNTS)
def sum_parts(
    parts, sink_parts, sinks, bias, grad_bias, sizes, window, shift, heads, m, kinds, places, COLUMNS: tl.constexpr
):
    """Write a row of the biases' gradient: all that the kinds of windows have for a position, sinks spread again."""
    position, head, n = tl.program_id(0), tl.program_id(1), window[0] * window[1] * window[2]
    column, target = tl.arange(0, COLUMNS), (head * n + position) * n
    i, j, k = position // (window[1] * window[2]), position // window[2] % window[1], position % window[2]
    x, y, z = column // (window[1] * window[2]), column // window[2] % window[1], column % window[2]
    score = tl.load(bias + target + column, mask=column < n, other=0.0) * 1.4426950408889634
    total, part = tl.zeros((COLUMNS,), tl.float32), 0
    for kind in range(kinds):
        many_x, many_y, many_z, a, b, c = _kinds(kind, sizes, window, shift)
        _x, nx, sx, ox = _cut(a, sizes[0], window[0], shift[0])
        _y, ny, sy, oy = _cut(b, sizes[1], window[1], shift[1])
        _z, nz, sz, oz = _cut(c, sizes[2], window[2], shift[2])
        end = part + tl.cdiv(many_x * many_y * many_z, places)
        there = (i >= ox) & (i < ox + nx) & (j >= oy) & (j < oy + ny) & (k >= oz) & (k < oz + nz)
        if there & (part < end):
            row = head * n + ((i - ox) * ny + j - oy) * nz + k - oz
            seen = (x >= ox) & (x < ox + sx) & (y >= oy) & (y < oy + sy) & (z >= oz) & (z < oz + sz) & (column < n)
            exist = seen & (x < ox + nx) & (y < oy + ny) & (z < oz + nz)
            of_row, grad_sink = ((x - ox) * ny + y - oy) * nz + z - oz, 0.0
            for number in range(part, end):
                token = number * heads * n + row
                total += tl.load(parts + token.to(tl.int64) * m + of_row, mask=exist, other=0.0)
                grad_sink += tl.load(sink_parts + token)
            share = tl.exp2(tl.minimum(score - tl.maximum(tl.load(sinks + kind * heads * n + row), -1e30), 0.0))
            total += tl.where(seen & (exist == 0), share * grad_sink, 0.0)
        part = end
    tl.store(grad_bias + target + column, total, mask=column < n)
