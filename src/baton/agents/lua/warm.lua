-- Shared by the warming scripts: what is known of a prefix's entry in the API's cache, by this
-- server's clock.
--
-- The hash has `seen_at` (s; the entry was last known to be there: written, or read), `gone_at` (s;
-- a call that began then did not find it), `warmer` (token of who writes it now, or empty), `tries`
-- (calls to write it since it was last read) and `until` (s; end of the last try, or of its lease).
-- ARGV[1] of each script: seconds after which the hash may go.
local function load_entry(key)
  local stored = redis.call('HMGET', key, 'seen_at', 'gone_at', 'warmer', 'tries', 'until')
  return {seen_at = tonumber(stored[1] or 0), gone_at = tonumber(stored[2] or 0),
          warmer = stored[3] or '', tries = tonumber(stored[4] or 0),
          ends = tonumber(stored[5] or 0)}
end

local function save_entry(key, entry)
  redis.call('HSET', key, 'seen_at', number_text(entry.seen_at),
             'gone_at', number_text(entry.gone_at), 'warmer', entry.warmer,
             'tries', entry.tries, 'until', number_text(entry.ends))
  redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(tonumber(ARGV[1]) * 1000)))
end
