-- Does: takes up to ARGV[1] notes off a session and records them: last access in the metadata, one
--       audit entry for what one agent did alike with one version. The time is Redis', never a
--       reader's.
--       A note whose answer was lost comes again. Senders number their notes, so one that is not
--       above its sender's last is a repeat; the list's marker remembers the last senders'.
-- KEYS[1]: the session's base key
-- ARGV[1]: notes at most   ARGV[2]: backstop in ms
-- Returns: {notes taken, notes left, refresh due 0|1}
-- Errors:  WRONGTYPE, with nothing written; a note that is none is counted in the audit as malformed
-- include: expiry.lua
-- include: audit.lua
local MAX_SENDERS = 100
local MAX_NOTE_BYTES = 2048
local MAX_DETAILS = 8
local MAX_ID_BYTES = 128
local MAX_READS = 1000000000
local MAX_NUMBER = 1000000000000
-- What who may only append notes may claim; a write is audited by the script that did it.
local COUNTED_AS = {read = 'reads', exported = 'count', key_used = 'count', denied = 'count'}
local base = KEYS[1]
local access, metadata = base .. ':access', base .. ':metadata'
local backstop_ms = tonumber(ARGV[2])
local listed = redis.call('LRANGE', access, 0, tonumber(ARGV[1]))
local taken = #listed - 1
if taken < 1 or redis.call('HGET', base, 'state') ~= 'live' then
  return {0, 0, 0}
end
local now_ms = math.floor(redis_now_us() / 1000)

local function is_id(value)
  return type(value) == 'string' and #value <= MAX_ID_BYTES
end

-- Whether it is a table of a few texts; missing is as good as empty.
local function is_texts(value, most)
  if value ~= nil and type(value) ~= 'table' then
    return false
  end
  local count = 0
  for name, text in pairs(value or {}) do
    count = count + 1
    if count > most or type(name) ~= 'string' or type(text) ~= 'string' then
      return false
    end
  end
  return true
end

-- Whoever may append a note may append anything, such as 1e999, which cannot be encoded again.
local function parse(text)
  local ok, note = pcall(cjson.decode, #text <= MAX_NOTE_BYTES and text or '')
  if not (ok and type(note) == 'table' and is_id(note.agent) and is_id(note.version)
          and is_id(note.sender) and type(note.number) == 'number' and note.number >= 1
          and note.number <= MAX_NUMBER and type(note.reads) == 'number'
          and COUNTED_AS[note.operation or 'read'] and is_texts(note.details, MAX_DETAILS)
          and is_texts(note.caller, 2)) then
    return {agent = '', version = 'malformed', operation = 'read', reads = 1, details = {}}
  end
  -- In this order, for min passes a NaN on and max does not.
  note.reads = math.max(1, math.min(math.floor(note.reads), MAX_READS))
  note.operation = note.operation or 'read'
  note.details = note.details or {}
  return note
end

-- Texts as one that no other texts give: each behind its length.
local function joined(texts)
  local parts = {}
  for i, text in ipairs(texts) do
    parts[i] = #text .. ':' .. text
  end
  return table.concat(parts)
end

local function joined_pairs(texts)
  local parts = {}
  for name, text in pairs(texts or {}) do
    parts[#parts + 1] = joined({name, text})
  end
  table.sort(parts)
  return joined(parts)
end

-- Notes that say the same of the same become one entry.
local function key_of(note)
  return joined({note.agent, note.version, note.operation, joined_pairs(note.details),
                 joined_pairs(note.caller)})
end

local known, marks = pcall(cjson.decode, listed[1])
if not (known and type(marks) == 'table') then
  marks = {}
end
local last = {}
for _, mark in ipairs(marks) do
  last[mark[1]] = mark[2]
end
local heard, is_heard, order, counts, last_agent = {}, {}, {}, {}, nil
for i = 2, #listed do
  local note = parse(listed[i])
  local sender = note.sender
  if not sender or note.number > (last[sender] or 0) then
    local key = key_of(note)
    if not counts[key] then
      order[#order + 1] = {key, note}
      counts[key] = 0
    end
    counts[key] = counts[key] + note.reads
    if note.operation == 'read' then
      last_agent = note.agent
    end
  end
  if sender then
    last[sender] = math.max(note.number, last[sender] or 0)
    if not is_heard[sender] then
      is_heard[sender] = true
      heard[#heard + 1] = sender
    end
  end
end

-- The marker's senders, the longest silent first.
local senders = {}
for _, mark in ipairs(marks) do
  if not is_heard[mark[1]] then
    senders[#senders + 1] = mark
  end
end
for _, sender in ipairs(heard) do
  senders[#senders + 1] = {sender, last[sender]}
end
local marker = cjson.encode({unpack(senders, math.max(1, #senders - MAX_SENDERS + 1))})
local entries = {}
for i, each in ipairs(order) do
  local key, note = each[1], each[2]
  note.details[COUNTED_AS[note.operation]] = counts[key]
  entries[i] = {at = now_ms, agent = note.agent, operation = note.operation,
                version = note.version, details = note.details, caller = note.caller}
end
-- A key of another type stops the script here.
check_audit(base)
redis.call('HLEN', metadata)

-- Every check has passed; from here on only writes.
redis.call('LTRIM', access, taken, -1)
redis.call('LSET', access, 0, marker)
if last_agent then
  redis.call('HSET', metadata, 'last_accessed_at', number_text(now_ms),
             'last_accessed_by', last_agent)
end
if #entries > 0 then
  append_entries(base, entries)
end
local due = 0
if refresh_is_due(base, backstop_ms, now_ms) then
  if tonumber(redis.call('HGET', base, 'next_chunk') or '0') <= SLICE then
    refresh_all(base, backstop_ms, now_ms)
  else
    due = 1
  end
end
return {taken, redis.call('LLEN', access) - 1, due}
