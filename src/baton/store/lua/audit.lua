-- Shared by the scripts that write the audit trail. An operation and its entry are one script, so
-- neither is there without the other. The keys outlive the session, and expire at one instant.
local AUDIT_MS = 128 * 24 * 3600 * 1000
local AUDIT_KEYS = {':audit', ':audit_state', ':audit_seals'}

local function keep_audit(base, now_ms)
  for _, suffix in ipairs(AUDIT_KEYS) do
    redis.call('PEXPIREAT', base .. suffix, string.format('%.0f', now_ms + AUDIT_MS))
  end
end

-- Before a script's first write: stops it where a key of another type would stop it amid them.
local function check_audit(base)
  redis.call('LLEN', base .. ':audit')
  redis.call('HLEN', base .. ':audit_state')
end

-- An entry: {at = ms, agent, operation, version, details = table, caller = {host, client}}, every
-- number an integer below 1e14, beyond which cjson rounds. All of them have the same `at`.
local function append_entries(base, entries)
  local stored = redis.call('HGET', base .. ':audit_state', 'next') or '0'
  -- A damaged counter must not stop writers; whoever verifies sees the numbers break off.
  local last = tonumber(string.match(stored, '^%d+$')) or redis.call('LLEN', base .. ':audit')
  local encoded = {}
  for i, entry in ipairs(entries) do
    entry.session = string.match(base, '{(.*)}')
    entry.seq = last + i
    entry.details = entry.details or {}
    encoded[i] = cjson.encode(entry)
  end
  redis.call('RPUSH', base .. ':audit', unpack(encoded))
  redis.call('HSET', base .. ':audit_state', 'next', string.format('%.0f', last + #entries))
  keep_audit(base, entries[1].at)
end

local function append_audit(base, entry)
  append_entries(base, {entry})
end
