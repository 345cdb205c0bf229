-- Does: takes up to ARGV[1] notes of reads off a session and records them: last access in the
--       metadata, one audit entry for each agent and version. The time is Redis', never a reader's.
--       A note whose answer was lost comes again. Senders number their notes, so one that is not
--       above its sender's last is a repeat; the list's marker remembers the last senders'.
-- KEYS[1]: the session's base key
-- ARGV[1]: notes at most   ARGV[2]: backstop in ms
-- Returns: {notes taken, notes left, refresh due 0|1}
-- Errors:  WRONGTYPE, with nothing written; a note that is none is counted in the audit as malformed
-- include: expiry.lua
local MAX_SENDERS = 100
local MAX_NOTE_BYTES = 1024
local MAX_ID_BYTES = 128
local MAX_READS = 1000000000
local MAX_NUMBER = 1000000000000
local base = KEYS[1]
local access, audit, metadata = base .. ':access', base .. ':audit', base .. ':metadata'
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

-- Whoever may append a note may append anything, such as 1e999, which cannot be encoded again.
local function parse(text)
  local ok, note = pcall(cjson.decode, #text <= MAX_NOTE_BYTES and text or '')
  if not (ok and type(note) == 'table' and is_id(note.agent) and is_id(note.version)
          and is_id(note.sender) and type(note.number) == 'number' and note.number >= 1
          and note.number <= MAX_NUMBER and type(note.reads) == 'number') then
    return {agent = '', version = 'malformed', reads = 1}
  end
  -- In this order, for min passes a NaN on and max does not.
  note.reads = math.max(1, math.min(math.floor(note.reads), MAX_READS))
  return note
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
    local key = note.agent .. '\n' .. note.version
    if not counts[key] then
      order[#order + 1] = note
      counts[key] = 0
    end
    counts[key] = counts[key] + note.reads
    last_agent = note.agent
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
for i, note in ipairs(order) do
  local reads = counts[note.agent .. '\n' .. note.version]
  entries[i] = cjson.encode({at = now_ms, agent = note.agent, operation = 'read',
                             version = note.version, details = {reads = reads}})
end
-- A key of another type stops the script here.
redis.call('LLEN', audit)
redis.call('HLEN', metadata)

-- Every check has passed; from here on only writes.
redis.call('LTRIM', access, taken, -1)
redis.call('LSET', access, 0, marker)
if #entries > 0 then
  redis.call('HSET', metadata, 'last_accessed_at', number_text(now_ms),
             'last_accessed_by', last_agent)
  redis.call('RPUSH', audit, unpack(entries))
  redis.call('PEXPIRE', audit, AUDIT_MS)
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
