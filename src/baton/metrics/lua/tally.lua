-- Does: adds a process's counts to the sums of where it runs; each batch once, however often sent.
-- KEYS[1]: metrics:{scope}, a hash: series -> whole number
-- ARGV[1]: sender   ARGV[2]: number of the batch, from 1   ARGV[3]: how long the sums are kept (ms)
-- ARGV[4]: how long the sender is remembered (ms)   ARGV[5..]: series, amount, series, amount, ...
-- Returns: 1, or 0 where this batch was added before
-- Errors:  none of its own
local sums, sender = KEYS[1], KEYS[1] .. ':sender:' .. ARGV[1]
if tonumber(redis.call('GET', sender) or '0') >= tonumber(ARGV[2]) then
  return 0
end
redis.call('SET', sender, ARGV[2], 'PX', ARGV[4])
for i = 5, #ARGV, 2 do
  redis.call('HINCRBY', sums, ARGV[i], ARGV[i + 1])
end
redis.call('PEXPIRE', sums, ARGV[3])
return 1
