-- Does: drops versions and pending revisions together with the chunks that only they refer to, if
--       nothing was written or marked since the caller looked
-- KEYS[1]: the session's base key
-- ARGV[1]: JSON {id, expected_etag, expected_epoch, expected_next_chunk, agent, caller, versions: [[version, content hash]],
--          conflicts: [id], chunks: [chunk id], pins: [name]}
-- Returns: the epoch from now on; or "" if the session has changed: look again
-- Errors:  none of its own
-- include: expiry.lua
-- include: audit.lua
-- include: repeats.lua
local base = KEYS[1]
local request = cjson.decode(ARGV[1])
local state, etag, head, epoch, next_chunk, done =
  unpack(redis.call('HMGET', base, 'state', 'head_etag', 'head', 'epoch', 'next_chunk', 'done'))
local answered = done_as(done, request.id)
if state == 'live' and answered then
  return answered
end
if state ~= 'live' or etag ~= request.expected_etag or (epoch or '0') ~= request.expected_epoch
    or next_chunk ~= request.expected_next_chunk then
  return ''
end
local versions = {}
for _, dropped in ipairs(request.versions) do
  if dropped[1] == head then
    return ''
  end
  versions[#versions + 1] = dropped[1]
end

check_audit(base)
-- Every check has passed; from here on only writes. Freeing needs no memory, so it comes first.
for _, id in ipairs(request.chunks) do
  redis.call('UNLINK', base .. ':chunks:' .. number_text(id))
end
for _, dropped in ipairs(request.versions) do
  redis.call('HDEL', base .. ':manifests', dropped[1])
  redis.call('ZREM', base .. ':history', dropped[1] .. ':' .. dropped[2])
end
for _, id in ipairs(request.conflicts) do
  redis.call('HDEL', base .. ':conflicts', id)
  redis.call('HDEL', base .. ':pending', id)
end
for _, name in ipairs(request.pins) do
  redis.call('HDEL', base .. ':pins', name)
end
append_audit(base, {at = math.floor(redis_now_us() / 1000), agent = request.agent,
                    operation = 'collected', version = head, caller = request.caller,
                    details = {versions = versions, conflicts = request.conflicts,
                               chunks = #request.chunks}})
local epoch_now = number_text(redis.call('HINCRBY', base, 'epoch', 1))
remember_done(base, request.id, epoch_now)
return epoch_now
