-- Does: tells how much there is of an audit trail, all at one instant. Writes nothing.
-- KEYS[1]: the session's base key
-- Returns: {last number, entries trimmed, entries, seals, last seal, anchored chain, anchored
--          segment, time in ms, seals trimmed}, "" for what is absent
-- Errors:  WRONGTYPE
local base = KEYS[1]
local state = redis.call('HMGET', base .. ':audit_state', 'next', 'trimmed', 'anchored_chain',
                         'anchored', 'seals_gone')
local now = redis.call('TIME')
return {state[1] or '', state[2] or '', redis.call('LLEN', base .. ':audit'),
        redis.call('LLEN', base .. ':audit_seals'),
        redis.call('LINDEX', base .. ':audit_seals', -1) or '', state[3] or '', state[4] or '',
        tonumber(now[1]) * 1000 + math.floor(tonumber(now[2]) / 1000), state[5] or ''}
